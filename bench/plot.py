"""Plots: an empty figure, and how it is finished. matplotlib is imported only when something is drawn."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def figure_of(columns: int, width: float, height: float = 5.0, rows: int = 1) -> "tuple[Figure, list[Axes]]":
    """An empty figure with a grid of axes, row by row; sizes in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)  # draws into memory: no display is needed, whatever is configured
    return figure, [figure.add_subplot(rows, columns, number + 1) for number in range(rows * columns)]


def finish(figure: "Figure", axes: "Axes", path: Path) -> None:
    """Write a PNG with grid lines, and with a legend of these axes to the right where they have labels."""
    for each in figure.axes:
        each.grid(visible=True, which="major", alpha=0.3)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=8, frameon=False)
    figure.savefig(path, dpi=150, bbox_inches="tight")
