"""From the meters of several processes, through vLLM's own machinery, to the text of `/metrics`."""

import pickle
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from vllm.distributed.kv_transfer.kv_connector.utils import KVOutputAggregator
from vllm.v1.engine import EngineCoreOutputs
from vllm.v1.metrics.stats import SchedulerStats
from vllm.v1.outputs import KVConnectorOutput, ModelRunnerOutput
from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

from blend.report.metrics import Meter, Readings
from blend.report.stats import StageTimes, TokenCounts
from blend.store.tiers.tier_meter import HITS, TierMeter
from blend.vllm.connector import KVBlendConnector
from blend.vllm.exposition import METRICS, BlendProm, ConnectorStats
from blend.vllm.messages import BlendOutcome, Reason
from blend.vllm.scheduler.blend_metrics import count_blend, count_found, count_match, count_refused

OUTCOME = BlendOutcome(
    "r",
    counts=TokenCounts(exact_tokens=10, reused_tokens=70, recomputed_tokens=15, cold_tokens=5),
    times=StageTimes(load_ms=2.0, select_ms=400.0),
)


def rank(number: int) -> Meter:
    """A worker's meter: every rank reads the same chunks."""
    meter = Meter(f"rank {number}")
    tier = TierMeter("disk", meter)
    tier.looked_up(found=True)
    tier.looked_up(found=number > 0)
    tier.wrote(1000, 0.5)
    tier.evicted(2)
    tier.found_corrupt()
    TierMeter("memory", meter).holds(100 + number)
    return meter


def scheduler() -> Meter:
    """The scheduler's meter."""
    meter = Meter("scheduler")
    count_match(meter, 3.0)
    count_blend(meter, OUTCOME, found_tokens=32)
    count_found(meter, TokenCounts(reused_tokens=96, recomputed_tokens=4))
    count_refused(meter, Reason.NOTHING_KNOWN)
    count_refused(meter, Reason.NOTHING_KNOWN)
    return meter


def output(stats: ConnectorStats | None) -> ModelRunnerOutput:
    """What a worker sends when a step is done; it comes pickled."""
    sent = KVConnectorOutput(kv_connector_stats=pickle.loads(pickle.dumps(stats)))
    return ModelRunnerOutput(req_ids=[], req_id_to_index={}, kv_connector_output=sent)


def over_ranks(*meters: Meter) -> ConnectorStats:
    """As vLLM's executor adds the ranks up."""
    done = KVOutputAggregator(len(meters)).aggregate([output(ConnectorStats.of(meter)) for meter in meters])
    assert done is not None and done.kv_connector_output is not None
    stats = done.kv_connector_output.kv_connector_stats
    assert isinstance(stats, ConnectorStats)
    return stats


def sent(stats: ConnectorStats) -> dict[str, Any]:
    """As vLLM's engine sends it to the process that serves HTTP."""
    outputs = EngineCoreOutputs(scheduler_stats=SchedulerStats(kv_connector_stats=stats.to_dict()))
    frames = MsgpackEncoder().encode(outputs)
    got = MsgpackDecoder(EngineCoreOutputs).decode(frames)
    data = got.scheduler_stats.kv_connector_stats
    assert isinstance(data, dict)
    return data


@pytest.fixture
def prom() -> Iterator[BlendProm]:
    made = make_prom()
    yield made
    for collector in BlendProm._registered:
        REGISTRY.unregister(collector)
    BlendProm._registered.clear()


def make_prom(engines: int = 2) -> BlendProm:
    types = {Gauge: Gauge, Counter: Counter, Histogram: Histogram}
    labels: dict[int, list[object]] = {number: ["m", str(number)] for number in range(engines)}
    made = KVBlendConnector.build_prom_metrics(
        SimpleNamespace(kv_transfer_config=None),  # type: ignore[arg-type]
        types,
        ["model_name", "engine"],
        labels,
    )
    assert isinstance(made, BlendProm)
    return made


def exposed(engine: str = "0") -> dict[str, float]:
    """Series of one engine in the exposition text, without prefix and common labels."""
    found = {}
    for family in text_string_to_metric_families(generate_latest().decode()):
        for sample in family.samples:
            name, labels = sample.name.removeprefix("kvblend_"), dict(sample.labels)
            if name == sample.name or name.endswith("_created") or labels.pop("engine") != engine:
                continue
            assert labels.pop("model_name") == "m"
            found[" ".join([name, *(f"{key}={value}" for key, value in sorted(labels.items()))])] = (
                sample.value
            )
    return found


def test_what_all_ranks_and_the_scheduler_counted_is_added_up_in_the_text(prom: BlendProm) -> None:
    stats = over_ranks(rank(0), rank(1), Meter("rank 2"))
    scheduled = ConnectorStats.of(scheduler())
    assert scheduled is not None
    prom.observe(sent(stats.aggregate(scheduled)), 0)
    found = exposed()
    stages = {name: value for name, value in found.items() if name.startswith("stage")}
    assert {name: value for name, value in found.items() if name not in stages} == {
        "store_hits_total tier=disk": 3,
        "store_misses_total tier=disk": 1,
        "store_bytes_total direction=write tier=disk": 2000,
        "store_seconds_total direction=write tier=disk": 1.0,
        "store_evictions_total tier=disk": 4,
        "store_corrupt_total tier=disk": 2,
        "store_held_bytes process=rank 0 tier=memory": 100,
        "store_held_bytes process=rank 1 tier=memory": 101,
        "blends_total outcome=blended reason=": 1,
        "blends_total outcome=found reason=": 1,
        "blends_total outcome=refused reason=nothing_known": 2,
        "context_tokens_total kind=exact": 10,
        "context_tokens_total kind=reused": 70,
        "context_tokens_total kind=recomputed": 15 + 4,
        "context_tokens_total kind=cold": 5,
        "context_tokens_total kind=found": 32 + 96,
    }
    assert stages["stage_seconds_count stage=match"] == stages["stage_seconds_count stage=select"] == 1
    assert stages["stage_seconds_sum stage=select"] == 0.4
    assert stages["stage_seconds_bucket le=0.25 stage=select"] == 0
    assert stages["stage_seconds_bucket le=0.5 stage=select"] == 1


def test_engines_have_series_of_their_own_and_counts_go_up(prom: BlendProm) -> None:
    for engine, hits in ((0, 1), (1, 5), (0, 2)):
        meter = Meter()
        meter.add(HITS, hits, "disk")
        stats = ConnectorStats.of(meter)
        assert stats is not None
        prom.observe(sent(stats), engine)
    assert (exposed("0"), exposed("1")) == (
        {"store_hits_total tier=disk": 3},
        {"store_hits_total tier=disk": 5},
    )


def test_a_second_engine_in_one_process_begins_anew(prom: BlendProm) -> None:
    stats = ConnectorStats.of(scheduler())
    assert stats is not None
    prom.observe(sent(stats), 0)
    assert exposed()
    later = make_prom(1)
    assert not exposed()
    later.observe(sent(stats), 0)
    assert exposed()["blends_total outcome=blended reason="] == 1


def test_a_meter_that_counted_nothing_sends_nothing() -> None:
    assert ConnectorStats.of(Meter()) is None
    empty = KVBlendConnector.build_kv_connector_stats(None)
    assert empty.is_empty() and empty.reduce() == {}
    full = ConnectorStats.of(scheduler())
    assert full is not None and not full.is_empty()
    full.reset()
    assert full.is_empty()


def test_vllms_log_gets_one_line_of_what_was_counted() -> None:
    stats = KVBlendConnector.build_kv_connector_stats(sent(over_ranks(rank(0), rank(1))))
    assert stats.reduce()["store_hits[disk]"] == 3
    assert stats.aggregate(KVBlendConnector.build_kv_connector_stats({})).reduce() == stats.reduce()


def test_names_are_ours_and_different() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    assert all(name.startswith("kvblend_") and not name.endswith("_total") for name in names)
    assert Readings.from_json(sent(over_ranks(rank(0), rank(1)))).counts
