"""The contract of a selector, and the choice that follows from its scores."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from blend.plan import BlendPlan


def _same(partial: torch.Tensor) -> torch.Tensor:
    return partial


@dataclass(frozen=True, slots=True)
class SelectorInput:
    """What a selector may look at. `N` context tokens; rows are context positions `start .. N - 1`.

    Attributes:
        plan: the blend's plan.
        start: first context position that is not already in the engine's pages.
        fresh_keys, fresh_values: [N - start, H, D] at the selector's probe layer, computed with the
            whole context in view; None when it has no probe layer.
        cached_keys, cached_values: [N - start, H, D], the realigned stored rows of the same layer; rows of
            gaps and unreadable chunks are zero.
        reduce: sums a tensor over tensor-parallel ranks; each rank holds its own heads.
    """

    plan: BlendPlan
    start: int
    fresh_keys: torch.Tensor | None = None
    fresh_values: torch.Tensor | None = None
    cached_keys: torch.Tensor | None = None
    cached_values: torch.Tensor | None = None
    reduce: Callable[[torch.Tensor], torch.Tensor] = _same


class Selector(Protocol):
    """The rule that picks which context tokens to recompute. Stateless, one instance per name.

    Attributes:
        name: what users write.
        probe_layer: layer whose fresh keys and values it needs for every context row, or None. The
            layers below it are computed full-width, so a small number.
        looks_at_suffix: whether the suffix changes the choice (it is then part of the cache salt).
    """

    name: str
    probe_layer: int | None
    looks_at_suffix: bool

    def score(self, given: SelectorInput) -> torch.Tensor:
        """float32 [N - start]: the higher, the sooner recomputed; +inf means always.

        Must be the same on every tensor-parallel rank: whatever depends on heads goes through
        `given.reduce` before it is compared.
        """
