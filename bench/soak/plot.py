"""The picture of a soak. matplotlib is optional, and imported only when it is drawn."""

from collections.abc import Sequence
from pathlib import Path

from bench.plot import check_plots
from bench.soak.soaking import Sample

_MIB = 2**20


def plot_soak(samples: Sequence[Sample], path: Path) -> None:
    """Time to first token, resident memory and the store's size over the requests, one above the other.

    Args:
        path: a PNG to write.

    Raises:
        RequestError: matplotlib is not installed.
    """
    check_plots()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7.5))
    FigureCanvasAgg(figure)  # draws into memory: no display is asked for, whatever is configured
    ttft, memory, store = (figure.add_subplot(3, 1, number) for number in (1, 2, 3))
    numbers = [one.number for one in samples]
    ttft.plot(numbers, [one.ttft_ms for one in samples], ".", markersize=3)
    ttft.set_ylabel("time to first token, ms")
    memory.plot(numbers, [one.gauge.engine_bytes / _MIB for one in samples], label="engine")
    memory.plot(numbers, [one.gauge.own_bytes / _MIB for one in samples], label="this process")
    memory.set_ylabel("resident memory, MiB")
    memory.legend(frameon=False)
    store.plot(numbers, [one.gauge.store_bytes / _MIB for one in samples])
    store.set_ylabel("store, MiB")
    store.set_xlabel("novel combinations so far")
    for axes in (ttft, memory, store):
        axes.set_ylim(bottom=0)
        axes.grid(visible=True, alpha=0.3)
    figure.savefig(path, dpi=150, bbox_inches="tight")
