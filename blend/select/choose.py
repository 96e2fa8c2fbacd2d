"""From a selector's scores to the rows that are recomputed, and the residual that this choice leaves.

The residual is the share of the question's attention that goes to rows which only approximate a full
prefill's. It is known before anything is recomputed, costs nothing, and grows with the answer's distance from
full prefill's answer.
"""

import torch

from blend.plan.plan import BlendPlan
from blend.plan.ratio import Ratio, check_ratio


def choose(
    plan: BlendPlan, start: int, scores: torch.Tensor, cold: torch.Tensor, ratio: float
) -> torch.Tensor:
    """Context positions to recompute; the same on every rank that has the same scores.

    The budget is `ratio` of the rows that are blended. Cold rows are always selected and count towards it.
    Rows of exact spans are never selected unless they are cold. The rest of the budget goes to the highest
    scores; of equal scores the earlier position wins.

    Args:
        plan: the blend's plan, of `N` context tokens.
        start: first context position that is not already in the engine's pages.
        scores: float32 [N - start], higher means recomputed sooner; +inf and NaN (a broken row) mean always.
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
    """Rows of exact spans: bool [N - start].

    This includes chunks that a lossy codec packed: they differ from a full prefill by the codec's error only,
    so recomputing them would take budget from rows that need it more. See `open_inexact`.
    """
    exact = torch.zeros(plan.num_tokens, dtype=torch.bool)
    for span in plan.spans:
        if span.exact:
            exact[span.start : span.stop] = True
    return exact[start:]


def open_inexact(plan: BlendPlan, exact: torch.Tensor, ratio: Ratio) -> BlendPlan:
    """The plan to choose by: at ratio 1, rows are reused only if they equal a full prefill's to the bit.

    Args:
        exact: bool [N], cached rows that equal a full prefill's; rows that a lossy codec packed do not.
    """
    if ratio != 1:
        return plan
    # A chunk that stands twice is exact at its first place only.
    spans = [span for span in plan.spans if span.exact and not exact[span.start : span.stop].all()]
    return plan.with_inexact({span.record.chunk_id for span in spans})


def residual(plan: BlendPlan, start: int, attention: torch.Tensor, selected: torch.Tensor) -> float:
    """Share of the suffix's attention that goes to rows neither exact nor recomputed.

    Args:
        attention: float32 [P, N - start], see `SelectorInput.attention`.
        selected: int64 [S], context positions that are recomputed.

    Returns:
        From 0 (the question looks at no approximate row) to 1; 0 without a suffix.

    >>> plan = BlendPlan((5, 6, 7), ())
    >>> residual(plan, 0, torch.tensor([[0.5, 0.25, 0.125]]), torch.tensor([0, 2]))
    0.25
    """
    approximate = ~exact_rows(plan, start)
    approximate[selected - start] = False
    return float(attention[:, approximate].sum() / max(1, len(attention)))


def ratio_for(
    plan: BlendPlan,
    start: int,
    attention: torch.Tensor,
    scores: torch.Tensor,
    cold: torch.Tensor,
    max_residual: float,
) -> float:
    """The smallest recompute ratio that leaves at most a given residual.

    Args:
        attention: float32 [P, N - start], see `SelectorInput.attention`.
        scores: float32 [N - start], of the selector that will choose.
        cold: bool [N - start], rows that are computed in any case.
        max_residual: share of the suffix's attention, in [0, 1].

    >>> plan, attention = BlendPlan((5, 6, 7, 8), ()), torch.tensor([[0.5, 0.25, 0.125, 0.125]])
    >>> ratio_for(plan, 0, attention, attention[0], torch.zeros(4, dtype=torch.bool), 0.25)
    0.5
    """
    row_attention = attention.sum(0) / max(1, len(attention))
    open_rows = (~cold & ~exact_rows(plan, start)).nonzero().flatten()
    order = open_rows[scores.cpu()[open_rows].sort(descending=True, stable=True).indices]
    left = row_attention[order].flip(0).cumsum(0).flip(0)  # left[i]: residual when the first i are recomputed
    num_more = int((left > max_residual).sum())
    num_rows = plan.num_tokens - start
    return (int(cold.sum()) + num_more) / num_rows if num_rows else 0.0
