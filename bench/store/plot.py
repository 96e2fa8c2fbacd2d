"""The picture of codecs: bytes a token against what they add to a blend's KL."""

from collections.abc import Sequence
from pathlib import Path

from bench.plot import figure_of, finish
from bench.store.codecs import CodecFigures

AIM_SHARE = 0.1
"""Of the blend's own KL to full prefill: what a default codec may add."""


def plot_frontier(codecs: Sequence[CodecFigures], path: Path) -> None:
    """Each codec twice: by the KL that it adds, and by that from the blend of unpacked chunks.

    Args:
        path: a PNG to write; nothing is written where no codec was measured on questions.
    """
    costs = [(one, one.cost) for one in codecs if one.cost is not None]
    if not costs:
        return
    figure, (axes,) = figure_of(1, 7.5)
    sizes = [one.bytes_per_token for one, _ in costs]
    axes.plot(sizes, [cost.kl_added for _, cost in costs], "o", label="added to the KL to full prefill")
    axes.plot(sizes, [cost.kl_between for _, cost in costs], "x", label="KL to the blend of unpacked chunks")
    for one, cost in costs:
        axes.annotate(
            one.name, (one.bytes_per_token, cost.kl_added), textcoords="offset points", xytext=(6, 4)
        )
    aim = AIM_SHARE * max(cost.kl_blend for _, cost in costs)
    axes.axhline(aim, linestyle="--", linewidth=1, color="gray", label="a tenth of the blend's own")
    axes.set_yscale("symlog", linthresh=1e-4)
    axes.set_xlabel("bytes a token")
    axes.set_ylabel("KL, nats a token")
    finish(figure, axes, path)
