"""From a selector's input to the rows that are recomputed: the last step of selecting, on either path."""

from dataclasses import dataclass

import torch

from blend.errors import RequestError
from blend.ratio import AUTO, Ratio, auto_needs_question
from blend.select.base import Selector, SelectorInput
from blend.select.choose import choose
from blend.select.residual import ratio_for, residual


@dataclass(frozen=True, slots=True)
class Selection:
    """What is recomputed, and what that leaves.

    Attributes:
        positions: int64 [S], context positions, ascending, on the CPU.
        ratio: recompute ratio in force.
        residual: see `blend.select.residual`; None when the selector does not look at the question.
    """

    positions: torch.Tensor
    ratio: float
    residual: float | None


def select(
    given: SelectorInput, rule: Selector, cold: torch.Tensor, ratio: Ratio, max_residual: float
) -> Selection:
    """Score the rows and choose among them.

    Args:
        cold: bool [N - start], rows of gaps and of chunks that could not be read.
        ratio: recompute ratio in [0, 1], or "auto": as little as leaves at most `max_residual`.

    Raises:
        RequestError: the ratio is none, or "auto" with a selector that does not look at the question.
    """
    scores, plan, start = rule.score(given).cpu(), given.plan, given.start
    if ratio == AUTO:
        if given.attention is None:
            raise RequestError(auto_needs_question(rule.name))
        ratio = ratio_for(plan, start, given.attention, scores, cold, max_residual)
    positions = choose(plan, start, scores, cold, ratio)
    # Of rows before the start it is not known which of them are right.
    known = None if start else given.attention
    left = None if known is None else residual(plan, start, known, positions)
    return Selection(positions, ratio, left)
