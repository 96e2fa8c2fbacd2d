"""The contract of a selector, and the input it selects from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from blend.plan.plan import BlendPlan

MAX_PROBE_TOKENS = 128
"""Cap on the suffix tokens, from its end, that the question probe runs: a long conversation stays cheap."""

MIN_GAP_TOKENS = 8
"""A shorter gap is a separator and carries no question."""

LayerPart = tuple[float, float]
"""A part of a model's layers: (0.5, 1.0) is the upper half."""


def _same(partial: torch.Tensor) -> torch.Tensor:
    return partial


@dataclass(frozen=True, slots=True)
class SelectorInput:
    """The input of a selector. `N` context tokens; rows are context positions `start .. N - 1`.

    Attributes:
        plan: the blend's plan.
        start: first context position that is not already in the engine's pages.
        fresh_keys, fresh_values: [N - start, H, D] at the selector's probe layer, computed with the
            whole context in view; None when it has no probe layer.
        cached_keys, cached_values: [N - start, H, D], the realigned stored rows of the same layer; rows of
            gaps and unreadable chunks are zero.
        attention: float32 [P, N - start], attention from each of the suffix's last `P` tokens to each row
            when the suffix runs over the cached rows; mean over heads and over the selector's question
            layers, the same on all ranks. None when the selector has no question layers.
        reduce: sums a tensor over tensor-parallel ranks, each of which holds its own heads.
    """

    plan: BlendPlan
    start: int
    fresh_keys: torch.Tensor | None = None
    fresh_values: torch.Tensor | None = None
    cached_keys: torch.Tensor | None = None
    cached_values: torch.Tensor | None = None
    attention: torch.Tensor | None = None
    reduce: Callable[[torch.Tensor], torch.Tensor] = _same


class Selector(Protocol):
    """The rule that picks which context tokens to recompute. Stateless, one instance per name.

    Attributes:
        name: what users write.
        measure: what its scores measure, for display.
        probe_layer: layer whose fresh keys and values it needs for every context row, or None. All rows
            run through the layers below it, so it should be a small number.
        question_layers: layers whose question attention it needs, or None. With it, the suffix becomes part
            of the cache salt, since it changes the selection.
    """

    name: str
    measure: str
    probe_layer: int | None
    question_layers: LayerPart | None

    def score(self, inputs: SelectorInput) -> torch.Tensor:
        """float32 [N - start]: higher means recomputed sooner; +inf means always.

        The scores must be the same on every tensor-parallel rank: values that depend on heads go through
        `inputs.reduce` first.
        """


def layers_of(part: LayerPart, num_layers: int) -> range:
    """The layers of a part, at least one.

    >>> layers_of((0.5, 1.0), 30), layers_of((0.0, 1.0), 2), layers_of((0.5, 0.5), 4)
    (range(15, 30), range(0, 2), range(2, 3))
    """
    first = min(int(part[0] * num_layers), num_layers - 1)
    return range(first, max(first + 1, round(part[1] * num_layers)))


def probe_tokens(plan: BlendPlan) -> tuple[torch.Tensor, torch.Tensor, int]:
    """The tokens that the question probe runs: the last tokens of the gaps, then those of the suffix.

    A question in front of the documents is a gap; the suffix must attend to it to look for the answer.

    Returns:
        Token ids and positions, int64 each, ascending; and how many of them belong to the suffix.

    >>> ids, positions, num_suffix = probe_tokens(BlendPlan((1, 2, 3), (), (4, 5)))
    >>> ids.tolist(), positions.tolist(), num_suffix
    ([4, 5], [3, 4], 2)
    """
    suffix = plan.suffix_ids[-MAX_PROBE_TOKENS:]
    if not suffix:
        return torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64), 0
    in_gaps = [p for a, b in plan.gaps if b - a >= MIN_GAP_TOKENS for p in range(a, b)][-MAX_PROBE_TOKENS:]
    stop = plan.num_tokens + len(plan.suffix_ids)
    ids = [*(plan.token_ids[p] for p in in_gaps), *suffix]
    return torch.tensor(ids), torch.tensor([*in_gaps, *range(stop - len(suffix), stop)]), len(suffix)
