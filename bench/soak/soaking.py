"""A soak: one novel combination after another, and what it does to time, memory and the store."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from bench.combinations import Combination

WINDOW = 100
"""Requests at either end that are compared; half of them where there are fewer than twice as many."""


@dataclass(frozen=True, slots=True)
class Gauge:
    """What is held at one moment.

    Attributes:
        own_bytes: resident memory of this process.
        engine_bytes: resident memory of the processes that it started, the engine's among them; what they
            share (a chunk file that is mapped, say) counts in each.
        store_bytes, store_files: everything in the store's folder.
    """

    own_bytes: int
    engine_bytes: int
    store_bytes: int
    store_files: int

    @property
    def memory_bytes(self) -> int:
        return self.own_bytes + self.engine_bytes


@dataclass(frozen=True, slots=True)
class Sample:
    """One request.

    Attributes:
        at_s: seconds from the soak's start to the end of the answer.
        fallback: why the request was not blended, or None.
    """

    number: int
    at_s: float
    chunks: Combination
    ttft_ms: float
    fallback: str | None
    gauge: Gauge


@dataclass(frozen=True, slots=True)
class Drift:
    """A figure at both ends of a soak: medians of the first and of the last requests, and the maximum."""

    first: float
    last: float
    max: float

    @property
    def ratio(self) -> float:
        return self.last / self.first


def read_gauge(store: Path) -> Gauge:
    """Memory of this process and its children, and the size of a store's folder."""
    own = psutil.Process()
    sizes = [path.stat().st_size for path in _files(store)]
    return Gauge(
        own_bytes=own.memory_info().rss,
        engine_bytes=sum(map(_resident, own.children(recursive=True))),
        store_bytes=sum(sizes),
        store_files=len(sizes),
    )


def soak(
    combinations: Iterable[Combination],
    ask: Callable[[Combination], tuple[float, str | None]],
    gauge: Callable[[], Gauge],
    clock: Callable[[], float],
) -> Iterator[Sample]:
    """Ask one combination after another; each sample is yielded before the next request is sent.

    Args:
        ask: answers from chunks; returns milliseconds to the first token, and why the request was not
            blended, or None.
        clock: seconds.
    """
    begin = clock()
    for number, chunks in enumerate(combinations):
        ttft_ms, fallback = ask(chunks)
        yield Sample(number, clock() - begin, chunks, ttft_ms, fallback, gauge())


def drift(values: Sequence[float]) -> Drift:
    """A figure at the start and at the end.

    >>> drift([4.0, 2.0, 2.0, 3.0])
    Drift(first=3.0, last=2.5, max=4.0)
    """
    window = max(1, min(WINDOW, len(values) // 2))
    return Drift(median(values[:window]), median(values[-window:]), max(values))


def drifts(samples: Sequence[Sample]) -> dict[str, Drift]:
    """Every figure of a soak, by its name in the JSON line."""
    gauges = [one.gauge for one in samples]
    names = ("memory_bytes", "own_bytes", "engine_bytes", "store_bytes", "store_files")
    return {
        "ttft_ms": drift([one.ttft_ms for one in samples]),
        **{name: drift([getattr(one, name) for one in gauges]) for name in names},
    }


def _files(folder: Path) -> Iterator[Path]:
    for top, _, names in os.walk(folder):
        yield from (Path(top) / name for name in names)


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:  # it has just ended
        return 0
