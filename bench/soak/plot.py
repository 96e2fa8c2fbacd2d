"""The plot of a soak."""

from collections.abc import Sequence
from pathlib import Path

from bench.plot import figure_of, finish
from bench.soak.soaking import Sample

_MIB = 2**20


def plot_soak(samples: Sequence[Sample], path: Path) -> None:
    """Time to first token, resident memory and the store's size over the requests, one above the other.

    Args:
        path: a PNG to write.
    """
    figure, (ttft, memory, store) = figure_of(1, 9, 7.5, rows=3)
    numbers = [one.number for one in samples]
    ttft.plot(numbers, [one.ttft_ms for one in samples], ".", markersize=3)
    ttft.set_ylabel("time to first token, ms")
    memory.plot(numbers, [one.gauge.engine_bytes / _MIB for one in samples], label="engine")
    memory.plot(numbers, [one.gauge.own_bytes / _MIB for one in samples], label="this process")
    memory.set_ylabel("resident memory, MiB")
    store.plot(numbers, [one.gauge.store_bytes / _MIB for one in samples])
    store.set_ylabel("store, MiB")
    store.set_xlabel("novel combinations so far")
    for axes in (ttft, memory, store):
        axes.set_ylim(bottom=0)
    finish(figure, memory, path)
