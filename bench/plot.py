"""Pictures of figures. matplotlib is optional, and imported only when a picture is drawn."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from blend.errors import RequestError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def check_plots() -> None:
    """Whether pictures can be drawn.

    Raises:
        RequestError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise RequestError("got no matplotlib, expected it for the plots: pip install 'kvblend[bench]'")


def figure_of(num_axes: int, width: float, height: float = 5.0) -> "tuple[Figure, list[Axes]]":
    """An empty picture with axes side by side; sizes in inches.

    Raises:
        RequestError: matplotlib is not installed.
    """
    check_plots()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)  # draws into memory: no display is asked for, whatever is configured
    return figure, [figure.add_subplot(1, num_axes, number + 1) for number in range(num_axes)]


def finish(figure: "Figure", axes: "Axes", path: Path) -> None:
    """Write a picture, with a grid, and with a legend of these axes to the right where they have labels."""
    for each in figure.axes:
        each.grid(visible=True, which="major", alpha=0.3)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=8, frameon=False)
    figure.savefig(path, dpi=150, bbox_inches="tight")
