"""The table of time to first token, for people: a line per arm of each case, and where its time went."""

from collections.abc import Callable, Mapping, Sequence

from bench.report import table
from bench.ttft.case import Case
from bench.ttft.meter import STAGES
from bench.ttft.summary import Summary

_HEAD = ("context", "suffix", "TTFT ms", "p90", "CPU ms", "cached", "speed-up", "bound", "of bound")
CASE: Mapping[str, Callable[[Case], str]] = {
    "chunks": lambda case: f"{case.chunks}x{case.tokens}",
    "known": lambda case: f"{case.known:.0%}",
    "tier": lambda case: case.tier,
    "at once": lambda case: str(case.at_once),
}
"""What a case is, part by part."""
ALL_STAGES = (*STAGES, "prefill", "scheduling", "rest")
"""In the order in which they happen."""

_LEGEND = """\
TTFT: from submission to the first token, median; CPU: of the engine's processes meanwhile, median; cached:
share of the prompt in the engine's KV cache when the rest was prefilled; speed-up: full prefill's median over
the arm's; bound: the speed-up that the counted FLOPs allow; of bound: the share of it that was reached.
Below, ms of the request of median time: suffix and prefill as the engine reports them; scheduling: the
remainder, messages between processes and engine steps."""


def varied(rows: Sequence[Summary]) -> list[str]:
    """Names of the parts of a case that are not the same in all rows."""
    return [name for name, show in CASE.items() if len({show(row.case) for row in rows}) > 1]


def render_table(rows: Sequence[Summary], growth: Mapping[str, float]) -> str:
    """The figures, the times by stage, and the growth with the context.

    Args:
        growth: exponents by arm; may be empty.
    """
    parts = varied(rows)
    labels = [(*(CASE[name](row.case) for name in parts), row.arm.label) for row in rows]
    stages = [name for name in ALL_STAGES if any(name in row.stages_ms for row in rows)]
    head, num = (*parts, "arm"), len(parts) + 1
    figures = [(*label, *_cells(row)) for label, row in zip(labels, rows, strict=True)]
    times = [(*label, *_times(row, stages)) for label, row in zip(labels, rows, strict=True)]
    fits = [f"{label}: grows with context ** {value:.2f}" for label, value in growth.items()]
    return "\n".join(
        [
            *(table((*head, *_HEAD), figures, num), "", _LEGEND, "", table((*head, *stages), times, num)),
            *([""] if fits else []),
            *fits,
        ]
    )


def _cells(row: Summary) -> tuple[str, ...]:
    return (
        *(f"{row.context_tokens}", f"{row.suffix_tokens}"),
        *(f"{row.ttft_ms_median:.0f}", f"{row.ttft_ms_p90:.0f}", f"{row.cpu_ms_median:.0f}"),
        f"{row.hit_share:.0%}",
        *(f"{row.speedup:.2f}", f"{row.bound:.2f}", f"{row.fraction_of_bound:.0%}"),
    )


def _times(row: Summary, stages: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{row.stages_ms[name]:.1f}" if name in row.stages_ms else "" for name in stages)
