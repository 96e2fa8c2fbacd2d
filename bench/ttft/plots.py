"""The plots of time to first token."""

from collections.abc import Callable, Sequence
from pathlib import Path

from bench.plot import figure_of, finish
from bench.ttft.summary import Summary
from bench.ttft.table import ALL_STAGES, CASE, varied


def plot_stages(rows: Sequence[Summary], path: Path) -> None:
    """Where the time of each arm's median request went: a stacked bar per row.

    Args:
        path: a PNG to write.
    """
    figure, (axes,) = figure_of(1, width=9, height=1.5 + 0.3 * len(rows))
    parts = varied(rows)
    names = [
        ", ".join([row.arm.label, *(f"{part} {CASE[part](row.case)}" for part in parts)]) for row in rows
    ]
    left = [0.0] * len(rows)
    for number, stage in enumerate(ALL_STAGES):
        # The remainder can be slightly negative: the clocks of two processes differ.
        widths = [max(0.0, row.stages_ms.get(stage, 0.0)) for row in rows]
        if any(widths):
            axes.barh(range(len(rows)), widths, left=left, color=f"C{number}", label=stage)
            left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("ms to the first token, of the request of median time")
    finish(figure, axes, path)


def plot_lengths(rows: Sequence[Summary], path: Path) -> None:
    """Time to first token against context length, both logarithmic: a line per arm and size of chunk.

    Args:
        path: a PNG to write.
    """
    figure, (axes,) = figure_of(1, width=8)
    sizes = {row.case.tokens for row in rows}
    for label, own in _lines(rows, lambda row: row.context_tokens, several=len(sizes) > 1):
        axes.errorbar(
            [row.context_tokens for row in own],
            [row.ttft_ms_median for row in own],
            yerr=[[0.0] * len(own), [max(0.0, row.ttft_ms_p90 - row.ttft_ms_median) for row in own]],
            marker="o",
            capsize=2,
            label=label,
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("context tokens")
    axes.set_ylabel("ms to the first token (median; p90 above)")
    finish(figure, axes, path)


def plot_known(rows: Sequence[Summary], path: Path) -> None:
    """Time to first token against the share of chunks that are known: a line per arm.

    Args:
        path: a PNG to write.
    """
    figure, (axes,) = figure_of(1, width=8)
    for label, own in _lines(rows, lambda row: row.case.known):
        axes.plot(
            [row.case.known for row in own], [row.ttft_ms_median for row in own], marker="o", label=label
        )
    axes.set_ylim(bottom=0)
    axes.set_xlabel("share of the chunks that are known")
    axes.set_ylabel("ms to the first token (median)")
    finish(figure, axes, path)


def _lines(
    rows: Sequence[Summary], x: Callable[[Summary], float], several: bool = False
) -> list[tuple[str, list[Summary]]]:
    lines: dict[str, list[Summary]] = {}
    for row in sorted(rows, key=x):
        size = f", chunks of {row.case.tokens}" if several else ""
        lines.setdefault(f"{row.arm.label}{size}", []).append(row)
    return list(lines.items())
