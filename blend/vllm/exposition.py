"""Brings the metrics of the engine's processes to the API server's `/metrics`.

Once per engine step, workers and scheduler return what they counted since the last step. vLLM sums over the
ranks and passes the sums to the process that serves HTTP. Reference for the contract:
`vllm.distributed.kv_transfer.kv_connector.v1.metrics`.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from vllm.config import VllmConfig
from vllm.distributed.kv_transfer.kv_connector.v1.metrics import KVConnectorPromMetrics, KVConnectorStats

from blend.report.metrics import Kind, Meter, Metric, Readings, Series
from blend.store.tiers import tier_meter
from blend.vllm.scheduler import blend_metrics

METRICS = (*tier_meter.METRICS, *blend_metrics.METRICS)
_KINDS: Mapping[Kind, Any] = {Kind.COUNTER: Counter, Kind.GAUGE: Gauge, Kind.HISTOGRAM: Histogram}


class ConnectorStats(KVConnectorStats):
    """`Readings` as vLLM sends them; `data` is their JSON form."""

    @classmethod
    def of(cls, meter: Meter) -> "ConnectorStats | None":
        """What a meter counted since the last call, or None."""
        readings = meter.take()
        return cls(readings.to_json()) if readings else None

    @property
    def readings(self) -> Readings:
        return Readings.from_json(self.data)

    def reset(self) -> None:
        self.data = {}

    def aggregate(self, other: KVConnectorStats) -> "ConnectorStats":
        assert isinstance(other, ConnectorStats)
        return ConnectorStats(self.readings.merged(other.readings).to_json())

    def reduce(self) -> dict[str, int | float]:
        """The counters, for vLLM's log."""
        return {_written(series): value for series, value in self.readings.counts.items()}

    def is_empty(self) -> bool:
        return not self.readings


class BlendProm(KVConnectorPromMetrics):
    """kvblend's metrics next to vLLM's own, in the process that serves HTTP."""

    _registered: ClassVar[list[Any]] = []
    """prometheus_client has one registry per process, and the server's engine may be its second one."""

    def __init__(
        self,
        vllm_config: VllmConfig,
        metric_types: Mapping[Any, Any],
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> None:
        super().__init__(vllm_config, dict(metric_types), labelnames, per_engine_labelvalues)
        while self._registered:
            with suppress(KeyError):
                REGISTRY.unregister(self._registered.pop())
        self._collectors = {m.name: _collector(metric_types[_KINDS[m.kind]], m, labelnames) for m in METRICS}
        self._registered.extend(self._collectors.values())

    def observe(self, transfer_stats_data: dict[str, Any], engine_idx: int = 0) -> None:
        """Add what an engine counted."""
        readings = Readings.from_json(transfer_stats_data)
        for series, value in readings.counts.items():
            self._child(series, engine_idx).inc(value)
        for series, value in readings.levels.items():
            self._child(series, engine_idx).set(value)
        for series, values in readings.observed.items():
            child = self._child(series, engine_idx)
            for value in values:
                child.observe(value)

    def _child(self, series: Series, engine_idx: int) -> Any:
        name, labels = series
        return self._collectors[name].labels(*self.per_engine_labelvalues[engine_idx], *labels)


def _collector(make: Any, metric: Metric, labelnames: Sequence[str]) -> Any:
    labels = [*labelnames, *metric.labels]
    if metric.kind is Kind.HISTOGRAM:
        return make(metric.name, metric.help, labels, buckets=metric.buckets)
    if metric.kind is Kind.GAUGE:
        return make(metric.name, metric.help, [*labels, "process"], multiprocess_mode="mostrecent")
    return make(metric.name, metric.help, labels)


def _written(series: Series) -> str:
    """A series, for a line of a log.

    >>> _written(("kvblend_store_bytes", ("disk", "read"))), _written(("kvblend_blends", ("found", "")))
    ('store_bytes[disk read]', 'blends[found]')
    """
    name, labels = series
    return f"{name.removeprefix('kvblend_')}[{' '.join(filter(None, labels))}]"
