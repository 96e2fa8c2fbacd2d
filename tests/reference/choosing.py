"""Choosing what to recompute, by sorting a list."""

from collections.abc import Sequence

from blend.plan.plan import BlendPlan


def choose(
    plan: BlendPlan, start: int, scores: Sequence[float], cold: Sequence[bool], ratio: float
) -> list[int]:
    """What `blend.select.choose.choose` must give."""
    rows = range(start, plan.num_tokens)
    exact = {p for span in plan.spans if span.exact for p in range(span.start, span.stop)}
    always = [p for p in rows if cold[p - start]]
    rest = [p for p in rows if p not in always and p not in exact]
    always += [p for p in rest if scores[p - start] == float("inf")]
    rest = sorted((p for p in rest if p not in always), key=lambda p: (-scores[p - start], p))
    left = max(0, round(ratio * len(rows)) - len(always))
    return sorted(always + rest[:left])
