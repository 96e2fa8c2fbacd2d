"""The laboratory's table, for people: a line per method, full prefill's own first."""

from collections.abc import Sequence

from api.cli.columns import aligned
from bench.fidelity.resample import Interval
from bench.fidelity.summary import Summary

_HEAD = (
    *("method", "chunks", "ratio", "KL mean", "[95 % CI]", "median", "first", "top-1", "match", "catastr."),
    *("margin", "F1", "EM", "FLOPs", "ms", "vs baseline", "[95 % CI]", "p"),
)
_NUMBERS = _HEAD[2:]

_LEGEND = """\
{num} questions. KL: divergence from full prefill in nats, its mean over the answer; median: that of the
median question; first: of the first token. top-1: share of full prefill's answer that is most likely here
too; match: tokens until the greedy answers part; catastr.: first token not in full prefill's top 5, or its
KL over 2; margin: log-probability per token of the gold answer, less full prefill's. FLOPs: up to the first
token, over full prefill's; ms: median time to it."""
_BASELINE = """
vs baseline: mean KL over that of {name} at the same ratio (or at its only one); p: paired sign-flip test."""


def render_table(summaries: Sequence[Summary], baseline: str | None = None) -> str:
    """Aligned text; "-" stands for what is not known.

    Args:
        summaries: over the same questions.
        baseline: name of the method in `Summary.against`.
    """
    rows = [_HEAD, *([_full(summaries[0])] if summaries else []), *map(_cells, summaries)]
    legend = _LEGEND.format(num=max((one.num for one in summaries), default=0))
    if baseline:
        legend += _BASELINE.format(name=baseline)
    return f"{aligned(rows, right=_NUMBERS)}\n\n{legend}"


def _full(one: Summary) -> tuple[str, ...]:
    """Full prefill itself, in the same columns."""
    agreement = ("0", "", "0", "0", "1.000", "", "0.00", "0.000")
    scores = (f"{one.full_f1:.3f}", f"{one.full_em:.3f}", "1.000", f"{one.full_ms:.0f}")
    return ("full prefill", "", "", *agreement, *scores, "", "", "")


def _cells(one: Summary) -> tuple[str, ...]:
    return (
        *(one.method.name, one.method.chunks, f"{one.method.ratio:g}"),
        *(
            _small(one.kl_mean.mean),
            _interval(one.kl_mean.ci),
            _small(one.kl_median),
            _small(one.kl_first.mean),
        ),
        *(f"{one.top1.mean:.3f}", f"{one.match_tokens.mean:.1f}", f"{one.catastrophic.mean:.2f}"),
        "-" if one.gold_margin is None else f"{one.gold_margin.mean:+.3f}",
        *(f"{one.f1.mean:.3f}", f"{one.em.mean:.3f}", f"{one.flops_share:.3f}", f"{one.ms:.0f}"),
        *_against(one),
    )


def _against(one: Summary) -> tuple[str, str, str]:
    against = one.against
    if against is None:
        return "", "", ""
    ratio = "-" if against.kl_ratio is None else _small(against.kl_ratio)
    return ratio, "-" if against.ci is None else _interval(against.ci), f"{against.p:.4f}"


def _interval(interval: Interval) -> str:
    return f"[{_small(interval.low)}, {_small(interval.high)}]"


def _small(value: float) -> str:
    """Three significant digits, whatever the size.

    >>> _small(0.01234), _small(1.5e-7), _small(0.0), _small(12.3)
    ('0.0123', '1.5e-07', '0', '12.3')
    """
    return f"{value:.3g}"
