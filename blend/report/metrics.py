"""What is counted while kvblend works, and the meter that counts it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Lock
from typing import Any

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of a histogram's buckets."""

Series = tuple[str, tuple[str, ...]]
"""A metric's name, and the values of its labels."""


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """Something that is counted. To add one: define it where it is counted, and name it in that file's table.

    Attributes:
        name: as in Prometheus, without a counter's `_total`.
        help: one sentence.
        labels: names of its labels. A gauge, which is the state of one process, has `process` besides.
        buckets: of a histogram.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = SECONDS


@dataclass(frozen=True, slots=True)
class Readings:
    """What a meter counted in some time.

    Attributes:
        counts: how much was added.
        levels: of gauges that were set.
        observed: each value that a histogram is to take in.
    """

    counts: Mapping[Series, float] = field(default_factory=dict)
    levels: Mapping[Series, float] = field(default_factory=dict)
    observed: Mapping[Series, tuple[float, ...]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.counts or self.levels or self.observed)

    def merged(self, later: "Readings") -> "Readings":
        """Both together: of another process, or of the time that followed."""
        counts, observed = dict(self.counts), dict(self.observed)
        for series, value in later.counts.items():
            counts[series] = counts.get(series, 0) + value
        for series, values in later.observed.items():
            observed[series] = observed.get(series, ()) + values
        return Readings(counts, {**self.levels, **later.levels}, observed)

    def to_json(self) -> dict[str, Any]:
        """Lists and plain values only, which any way to send messages takes."""
        return {
            "counts": [[name, list(labels), value] for (name, labels), value in self.counts.items()],
            "levels": [[name, list(labels), value] for (name, labels), value in self.levels.items()],
            "observed": [
                [name, list(labels), list(values)] for (name, labels), values in self.observed.items()
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Readings":
        """Inverse of `to_json`; what is missing is empty."""
        return cls(
            {(name, tuple(labels)): value for name, labels, value in data.get("counts", ())},
            {(name, tuple(labels)): value for name, labels, value in data.get("levels", ())},
            {(name, tuple(labels)): tuple(values) for name, labels, values in data.get("observed", ())},
        )


class Meter:
    """Counts in one process, from any thread.

    Args:
        process: what gauges call it.

    >>> meter, hits = Meter(), Metric("hits", Kind.COUNTER, "Hits.", ("tier",))
    >>> meter.add(hits, 2, "disk")
    >>> meter.take().counts, meter.take().counts, meter.total(hits, "disk")
    ({('hits', ('disk',)): 2}, {}, 2)
    """

    def __init__(self, process: str = "") -> None:
        self._process = process
        self._totals: dict[Series, float] = {}
        self._taken: dict[Series, float] = {}
        self._levels: dict[Series, float] = {}
        self._shifted: dict[Series, float] = {}
        self._observed: dict[Series, list[float]] = {}
        self._lock = Lock()

    def add(self, counter: Metric, value: float, *labels: str) -> None:
        """Count something; nothing of it (0) is told too, once."""
        series = _series(counter, Kind.COUNTER, labels)
        with self._lock:
            self._totals[series] = self._totals.get(series, 0) + value

    def set(self, gauge: Metric, value: float, *labels: str) -> None:
        """Say how something stands."""
        name, values = _series(gauge, Kind.GAUGE, labels)
        with self._lock:
            self._levels[name, (*values, self._process)] = value

    def shift(self, gauge: Metric, by: float, *labels: str) -> None:
        """Say how much more there is of something than before; one gauge takes `set` or this, not both."""
        name, values = _series(gauge, Kind.GAUGE, labels)
        series = name, (*values, self._process)
        with self._lock:
            self._shifted[series] = self._levels[series] = self._shifted.get(series, 0) + by

    def observe(self, histogram: Metric, value: float, *labels: str) -> None:
        """Note one value of many."""
        series = _series(histogram, Kind.HISTOGRAM, labels)
        with self._lock:
            self._observed.setdefault(series, []).append(value)

    def total(self, counter: Metric, *labels: str) -> float:
        """All that was ever counted, taken or not."""
        return self._totals.get(_series(counter, Kind.COUNTER, labels), 0)

    def take(self) -> Readings:
        """What came since this was last asked; nothing is given twice."""
        with self._lock:
            counts = {
                series: total - self._taken.get(series, 0)
                for series, total in self._totals.items()
                if series not in self._taken or total != self._taken[series]
            }
            self._taken = dict(self._totals)
            levels, self._levels = self._levels, {}
            observed, self._observed = self._observed, {}
        return Readings(counts, levels, {series: tuple(values) for series, values in observed.items()})


def _series(metric: Metric, kind: Kind, labels: tuple[str, ...]) -> Series:
    assert metric.kind is kind and len(labels) == len(metric.labels), f"{metric.name} is no such {kind}"
    return metric.name, labels
