"""The residual: how much of the question's attention is left on rows that only approximate a full prefill's.

It is known before anything is recomputed, costs nothing, and grows with the answer's distance from full
prefill's: the less of the residual is left, the closer the answer.
"""

import torch

from blend.plan.plan import BlendPlan
from blend.select.choose import exact_rows


def residual(plan: BlendPlan, start: int, attention: torch.Tensor, selected: torch.Tensor) -> float:
    """Share of the suffix's attention that goes to rows neither exact nor recomputed.

    Args:
        attention: float32 [P, N - start], see `SelectorInput.attention`.
        selected: int64 [S], context positions that are recomputed.

    Returns:
        From 0 (nothing the question looks at is approximate) to 1; 0 without a suffix.

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
    paid = attention.sum(0) / max(1, len(attention))
    open_rows = (~cold & ~exact_rows(plan, start)).nonzero().flatten()
    order = open_rows[scores.cpu()[open_rows].sort(descending=True, stable=True).indices]
    left = paid[order].flip(0).cumsum(0).flip(0)  # what is left when the first i are recomputed
    num_more = int((left > max_residual).sum())
    num_rows = plan.num_tokens - start
    return (int(cold.sum()) + num_more) / num_rows if num_rows else 0.0
