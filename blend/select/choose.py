"""The choice that follows from a selector's scores."""

import torch

from blend.plan.plan import BlendPlan
from blend.plan.ratio import Ratio, check_ratio


def choose(
    plan: BlendPlan, start: int, scores: torch.Tensor, cold: torch.Tensor, ratio: float
) -> torch.Tensor:
    """Context positions to recompute, the same on every rank that has the same scores.

    Cold rows are always in and count towards the budget, which is `ratio` of the rows that are blended.
    Rows of exact spans are never picked unless they are cold. The rest of the budget goes to the
    highest scores; of equal scores the earlier position wins.

    Args:
        plan: the blend's plan, of `N` context tokens.
        start: first context position that is not already in the engine's pages.
        scores: float32 [N - start], the higher the sooner; +inf and NaN (a broken row) mean always.
        cold: bool [N - start], rows of gaps and of chunks that could not be read.
        ratio: recompute ratio in [0, 1].

    Returns:
        int64 [S] on the CPU, ascending, in `start .. N - 1`.

    Raises:
        RequestError: the ratio is not in [0, 1].

    >>> gap = BlendPlan((5, 6, 7, 8), ())
    >>> choose(gap, 0, torch.tensor([1.0, 3.0, 2.0, 0.0]), torch.zeros(4, dtype=torch.bool), 0.5).tolist()
    [1, 2]
    """
    num_rows = plan.num_tokens - start
    assert scores.shape == cold.shape == (num_rows,), (
        f"expected scores and cold of shape ({num_rows},), got {tuple(scores.shape)} and {tuple(cold.shape)}"
    )
    check_ratio(ratio)
    budget = round(ratio * num_rows)
    scores = scores.cpu().nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
    picked = cold.cpu().clone()
    open_rows = ~picked & ~exact_rows(plan, start)
    picked |= open_rows & scores.isposinf()
    open_rows &= ~picked
    candidates = open_rows.nonzero().flatten()
    order = scores[candidates].sort(descending=True, stable=True).indices
    left = max(0, budget - int(picked.sum()))
    picked[candidates[order[:left]]] = True
    return picked.nonzero().flatten() + start


def exact_rows(plan: BlendPlan, start: int) -> torch.Tensor:
    """Rows that a full prefill would give again: bool [N - start].

    Those of a chunk that a lossy codec has packed are among them: they are off by that codec's error alone,
    so computing them again would take the budget from rows that need it more. See `open_inexact`.
    """
    exact = torch.zeros(plan.num_tokens, dtype=torch.bool)
    for span in plan.spans:
        if span.exact:
            exact[span.start : span.stop] = True
    return exact[start:]


def open_inexact(plan: BlendPlan, exact: torch.Tensor, ratio: Ratio) -> BlendPlan:
    """The plan to choose by: at ratio 1 nothing is taken from the store but what a full prefill gives.

    Args:
        exact: bool [N], rows at hand that equal a full prefill's: not those that a lossy codec has packed.
    """
    if ratio != 1:
        return plan
    # A chunk that stands twice is exact at its first place alone.
    spans = [span for span in plan.spans if span.exact and not exact[span.start : span.stop].all()]
    return plan.with_inexact({span.record.chunk_id for span in spans})
