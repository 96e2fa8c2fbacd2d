"""From a selector's input to the rows that are recomputed: the last step of selecting, on either path."""

from dataclasses import dataclass

import torch

from blend.errors import RequestError
from blend.plan.ratio import AUTO, Ratio, auto_needs_question
from blend.select.base import Selector, SelectorInput
from blend.select.choose import choose
from blend.select.residual import ratio_for, residual

TOP_UP_SHARE = 1 / 3
"""Of the ratio, for a question on a context that was blended for another one. Questions on one context look
at much the same rows: where this was measured, a third more gave the fidelity of a blend of one's own."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What is recomputed, and what that leaves.

    Attributes:
        positions: int64 [S], context positions, ascending, on the CPU.
        ratio: recompute ratio in force.
        residual: see `blend.select.residual`; None when the selector does not look at the question.
        scores: float32 [N - start] on the CPU, what the rows were ranked by; -inf: computed already.
    """

    positions: torch.Tensor
    ratio: float
    residual: float | None
    scores: torch.Tensor


def select(
    given: SelectorInput,
    rule: Selector,
    cold: torch.Tensor,
    computed: torch.Tensor,
    ratio: Ratio,
    max_residual: float,
) -> Selection:
    """Score the rows and choose among them.

    Args:
        cold: bool [N - start], rows of gaps and of chunks that could not be read.
        computed: bool [N - start], rows that were computed for this very context, for another question.
            They are not computed again, and others get `TOP_UP_SHARE` of the budget. Only a ratio of 1
            computes them too: full prefill's rows stand on nothing approximate.
        ratio: recompute ratio in [0, 1], or "auto": as little as leaves at most `max_residual`.

    Raises:
        RequestError: the ratio is none, or "auto" with a selector that does not look at the question.
    """
    plan, start = given.plan, given.start
    if ratio == 1:
        computed = torch.zeros_like(computed)
    scores = rule.score(given).cpu().masked_fill(computed, -torch.inf)
    paid = None if given.attention is None else given.attention.masked_fill(computed, 0.0)
    if ratio == AUTO:
        if paid is None:
            raise RequestError(auto_needs_question(rule.name))
        ratio = ratio_for(plan, start, paid, scores, cold, max_residual)
    elif computed.any():
        ratio *= TOP_UP_SHARE
    positions = choose(plan, start, scores, cold, ratio)
    # Of rows before the start it is not known which of them are right.
    left = None if start or paid is None else residual(plan, start, paid, positions)
    return Selection(positions[~computed[positions - start]], ratio, left, scores)
