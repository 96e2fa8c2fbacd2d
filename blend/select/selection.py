"""Applies a selector: from its input to the selected rows, inside vLLM and on a Hugging Face model alike."""

from dataclasses import dataclass

import torch

from blend.errors import RequestError
from blend.plan.ratio import AUTO, Ratio, auto_needs_question
from blend.select.base import Selector, SelectorInput
from blend.select.choose import choose, ratio_for, residual

TOP_UP_SHARE = 1 / 3
"""Factor on the ratio when a context was blended before, for another question. Questions on one context look
at
much the same rows: in measurements, a third of the budget on top gave the fidelity of a separate blend."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows to recompute, and what they leave.

    Attributes:
        positions: int64 [S], context positions, ascending, on the CPU.
        ratio: recompute ratio in force.
        residual: see `blend.select.choose`; None when the selector does not look at the question.
        scores: float32 [N - start] on the CPU, by which the rows were ranked; -inf: computed before.
    """

    positions: torch.Tensor
    ratio: float
    residual: float | None
    scores: torch.Tensor


def select(
    inputs: SelectorInput,
    rule: Selector,
    cold: torch.Tensor,
    computed: torch.Tensor,
    ratio: Ratio,
    max_residual: float,
) -> Selection:
    """Score the rows and choose among them.

    Args:
        cold: bool [N - start], rows of gaps and of chunks that could not be read.
        computed: bool [N - start], rows that were computed for this very context and another question.
            They are not computed again, and the other rows get `TOP_UP_SHARE` of the budget. Only ratio 1
            computes them again, because a full prefill's rows depend on no approximate row.
        ratio: recompute ratio in [0, 1], or "auto": as small as leaves at most `max_residual`.

    Raises:
        RequestError: the ratio is invalid, or "auto" with a selector that does not look at the question.
    """
    plan, start = inputs.plan, inputs.start
    if ratio == 1:
        computed = torch.zeros_like(computed)
    scores = rule.score(inputs).cpu().masked_fill(computed, -torch.inf)
    attention = None if inputs.attention is None else inputs.attention.masked_fill(computed, 0.0)
    if ratio == AUTO:
        if attention is None:
            raise RequestError(auto_needs_question(rule.name))
        ratio = ratio_for(plan, start, attention, scores, cold, max_residual)
    elif computed.any():
        ratio *= TOP_UP_SHARE
    positions = choose(plan, start, scores, cold, ratio)
    # It is not known which rows before the start are approximate.
    left = None if start or attention is None else residual(plan, start, attention, positions)
    return Selection(positions[~computed[positions - start]], ratio, left, scores)
