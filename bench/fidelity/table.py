"""The laboratory's table, for people, and its JSON line."""

from collections.abc import Sequence
from typing import Any

from bench.fidelity.intervals import Interval
from bench.fidelity.summary import Summary
from bench.report import table

_HEAD = (
    *("method", "chunks", "ratio", "KL mean", "[95 % CI]", "median", "first", "top-1", "match", "catastr."),
    *("margin", "F1", "EM", "FLOPs", "ms", "vs baseline", "[95 % CI]", "p"),
)
_LEGEND = """\
{num} questions. KL: divergence from full prefill in nats, its mean over the answer; median: that of the
median question; first: of the first token. top-1: share of full prefill's tokens that are also the method's
most likely ones; match: tokens before the greedy answers differ; catastr.: first token not in full prefill's
top 5, or its KL over 2; margin: log-probability per token of the gold answer, less full prefill's. FLOPs: up
to the first token, over full prefill's; ms: median time to the first token."""
_BASELINE = """
vs baseline: mean KL over that of {name} at the same ratio (or at its only one); p: paired sign-flip test."""


def render_table(summaries: Sequence[Summary], baseline: str | None = None) -> str:
    """Full prefill first, then a line per method; "-" stands for what is not known.

    Args:
        summaries: over the same questions.
        baseline: name of the method in `Summary.against`.
    """
    rows = [*map(_full, summaries[:1]), *map(_cells, summaries)]
    legend = _LEGEND.format(num=max((one.num for one in summaries), default=0))
    if baseline:
        legend += _BASELINE.format(name=baseline)
    return f"{table(_HEAD, rows, labels=2)}\n\n{legend}"


def as_object(one: Summary) -> dict[str, Any]:
    """A method in the JSON line."""
    return {
        "name": one.method.name,
        "ratio": one.method.ratio,
        "chunks": one.method.chunks,
        "kl_mean": one.kl_mean.mean,
        "kl_mean_ci": list(one.kl_mean.ci),
        "kl_first": one.kl_first.mean,
        "top1": one.top1.mean,
        "catastrophic": one.catastrophic.mean,
        "f1": one.f1.mean,
        "flops_share": one.flops_share,
        "ms": one.ms,
    }


def _full(one: Summary) -> tuple[str, ...]:
    """Full prefill itself, in the same columns."""
    agreement = ("0", "", "0", "0", "1.000", "", "0.00", "0.000")
    scores = (f"{one.full_f1:.3f}", f"{one.full_em:.3f}", "1.000", f"{one.full_ms:.0f}")
    return ("full prefill", "", "", *agreement, *scores, "", "", "")


def _cells(one: Summary) -> tuple[str | None, ...]:
    kl, first, against = one.kl_mean, one.kl_first.mean, one.against
    return (
        *(one.method.name, one.method.chunks, f"{one.method.ratio:g}"),
        *(f"{kl.mean:.3g}", _interval(kl.ci), f"{one.kl_median:.3g}", f"{first:.3g}"),
        *(f"{one.top1.mean:.3f}", f"{one.match_tokens.mean:.1f}", f"{one.catastrophic.mean:.2f}"),
        None if one.gold_margin is None else f"{one.gold_margin.mean:+.3f}",
        *(f"{one.f1.mean:.3f}", f"{one.em.mean:.3f}", f"{one.flops_share:.3f}", f"{one.ms:.0f}"),
        *(
            ("", "", "")
            if against is None
            else (
                None if against.kl_ratio is None else f"{against.kl_ratio:.3g}",
                None if against.ci is None else _interval(against.ci),
                f"{against.p:.4f}",
            )
        ),
    )


def _interval(interval: Interval) -> str:
    return f"[{interval.low:.3g}, {interval.high:.3g}]"
