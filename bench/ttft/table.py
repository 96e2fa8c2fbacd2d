"""The bench's table, for people: a line per arm of each case, and where its time went."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from api.cli.columns import aligned
from bench.ttft.case import Case
from bench.ttft.measured import STAGES
from bench.ttft.summary import Summary

_HEAD = ("arm", "context", "suffix", "TTFT ms", "p90", "CPU ms", "in pages", "sooner", "bound", "of bound")
_NUMBERS = _HEAD[1:]
_CASE: Mapping[str, Callable[[Case], str]] = {
    "chunks": lambda case: f"{case.chunks}x{case.tokens}",
    "known": lambda case: f"{case.known:.0%}",
    "tier": lambda case: case.tier,
    "at once": lambda case: str(case.at_once),
}
ALL_STAGES = (*STAGES, "prefill", "scheduling", "rest")
"""In the order in which they happen."""

_LEGEND = """\
TTFT: from submission to the first token, median; CPU: of the engine's processes meanwhile, median; in pages:
share of the prompt that was there when the rest was prefilled; sooner: full prefill's median over this one's;
bound: the same by counted FLOPs; of bound: what was reached of it. Below, ms of the request of median time:
suffix and prefill as the engine says them; scheduling: what is left, messages between processes and steps."""


def render_table(rows: Sequence[Summary], growth: Mapping[str, float]) -> str:
    """Aligned text.

    Args:
        growth: exponents by arm; may be empty.
    """
    varied = [name for name, show in _CASE.items() if len({show(row.case) for row in rows}) > 1]
    stages = [name for name in ALL_STAGES if any(name in row.stages_ms for row in rows)]
    cases = [[_CASE[name](row.case) for name in varied] for row in rows]
    figures = aligned(
        [(*varied, *_HEAD), *((*case, *_cells(row)) for case, row in _pairs(cases, rows))], right=_NUMBERS
    )
    times = aligned(
        [
            (*varied, "arm", *stages),
            *((*case, row.arm.label, *_times(row, stages)) for case, row in _pairs(cases, rows)),
        ],
        right=stages,
    )
    fits = [f"{label}: grows with context ** {value:.2f}" for label, value in growth.items()]
    return "\n".join([figures, "", _LEGEND, "", times, *([""] if fits else []), *fits])


def _pairs(cases: list[list[str]], rows: Sequence[Summary]) -> Iterable[tuple[list[str], Summary]]:
    return zip(cases, rows, strict=True)


def _cells(row: Summary) -> tuple[str, ...]:
    return (
        row.arm.label,
        *(f"{row.context_tokens}", f"{row.suffix_tokens}"),
        *(f"{row.ttft_ms_median:.0f}", f"{row.ttft_ms_p90:.0f}", f"{row.cpu_ms_median:.0f}"),
        f"{row.hit_share:.0%}",
        *(f"{row.speedup:.2f}", f"{row.bound:.2f}", f"{row.fraction_of_bound:.0%}"),
    )


def _times(row: Summary, stages: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{row.stages_ms[name]:.1f}" if name in row.stages_ms else "" for name in stages)
