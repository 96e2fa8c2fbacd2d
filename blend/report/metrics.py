"""The definition of a metric, and the meter that counts metrics in one process."""

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
    """A metric. To add one, define it in the file that counts it, and add it to that file's table.

    Attributes:
        name: as in Prometheus, without a counter's `_total`.
        help: one sentence.
        labels: names of its labels. A gauge describes one process and also has the label `process`.
        buckets: upper bounds, of a histogram.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = SECONDS


@dataclass(frozen=True, slots=True)
class Readings:
    """What a meter counted in an interval.

    Attributes:
        counts: additions to counters.
        levels: values of gauges that were set.
        observed: values for histograms.
    """

    counts: Mapping[Series, float] = field(default_factory=dict)
    levels: Mapping[Series, float] = field(default_factory=dict)
    observed: Mapping[Series, tuple[float, ...]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.counts or self.levels or self.observed)

    def merged(self, later: "Readings") -> "Readings":
        """Both readings together: of two processes, or of two intervals in order."""
        counts, observed = dict(self.counts), dict(self.observed)
        for series, value in later.counts.items():
            counts[series] = counts.get(series, 0) + value
        for series, values in later.observed.items():
            observed[series] = observed.get(series, ()) + values
        return Readings(counts, {**self.levels, **later.levels}, observed)

    def to_json(self) -> dict[str, Any]:
        """Lists and plain values only, which any serialiser accepts."""
        return {
            "counts": [[name, list(labels), value] for (name, labels), value in self.counts.items()],
            "levels": [[name, list(labels), value] for (name, labels), value in self.levels.items()],
            "observed": [
                [name, list(labels), list(values)] for (name, labels), values in self.observed.items()
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Readings":
        """Inverse of `to_json`; missing keys are empty."""
        return cls(
            {(name, tuple(labels)): value for name, labels, value in data.get("counts", ())},
            {(name, tuple(labels)): value for name, labels, value in data.get("levels", ())},
            {(name, tuple(labels)): tuple(values) for name, labels, values in data.get("observed", ())},
        )


class Meter:
    """Counts in one process; thread-safe.

    Args:
        process: value of the label `process` of gauges.

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
        """Add to a counter; adding 0 makes its series appear."""
        series = _series(counter, Kind.COUNTER, labels)
        with self._lock:
            self._totals[series] = self._totals.get(series, 0) + value

    def set(self, gauge: Metric, value: float, *labels: str) -> None:
        """Set a gauge."""
        name, values = _series(gauge, Kind.GAUGE, labels)
        with self._lock:
            self._levels[name, (*values, self._process)] = value

    def shift(self, gauge: Metric, by: float, *labels: str) -> None:
        """Change a gauge by an amount; use either `set` or `shift` for one gauge, never both."""
        name, values = _series(gauge, Kind.GAUGE, labels)
        series = name, (*values, self._process)
        with self._lock:
            self._shifted[series] = self._levels[series] = self._shifted.get(series, 0) + by

    def observe(self, histogram: Metric, value: float, *labels: str) -> None:
        """Add a value to a histogram."""
        series = _series(histogram, Kind.HISTOGRAM, labels)
        with self._lock:
            self._observed.setdefault(series, []).append(value)

    def total(self, counter: Metric, *labels: str) -> float:
        """A counter's total since the start."""
        return self._totals.get(_series(counter, Kind.COUNTER, labels), 0)

    def take(self) -> Readings:
        """What was counted since the last call; nothing is returned twice."""
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
