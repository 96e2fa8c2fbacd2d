"""Each thing that a tier does is counted once, with the bytes that really went through it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from blend.chunks.chunk import ChunkKV
from blend.errors import CorruptChunk, StoreFull
from blend.report.metrics import Meter, Readings
from blend.store.config import StoreConfig
from blend.store.stack import open_store
from blend.store.tiers.backed import BackedStore
from blend.store.tiers.cached import CachedStore
from blend.store.tiers.disk import DiskStore
from blend.store.tiers.tier_meter import READ, WRITE
from tests.support.processes import wait_for
from tests.support.storage_servers import RedisServer

MakeChunk = Callable[..., ChunkKV]


def counts(readings: Readings) -> dict[str, float]:
    """What was counted, but for seconds, as "metric tier direction"."""
    return {
        " ".join((name.removeprefix("kvblend_store_"), *labels)): value
        for (name, labels), value in readings.counts.items()
        if name.startswith("kvblend_store_") and not name.endswith("seconds")
    }


def seconds(readings: Readings, tier: str, direction: str) -> float:
    return readings.counts["kvblend_store_seconds", (tier, direction)]


def test_the_disk_counts_each_question_and_the_bytes_of_each_answer(
    tmp_path: Path, make_chunk: MakeChunk
) -> None:
    meter = Meter()
    store, chunk = DiskStore(tmp_path, meter=meter), make_chunk(1)
    assert store.get(chunk.record) is None
    store.put(chunk)
    written = meter.take()
    assert counts(written) == {"misses disk": 1, "bytes disk write": chunk.num_bytes}
    assert seconds(written, "disk", WRITE) > 0
    for _ in range(2):
        assert store.get(chunk.record) is not None
    read = meter.take()
    assert counts(read) == {"hits disk": 2, "bytes disk read": 2 * chunk.num_bytes}
    assert seconds(read, "disk", READ) > 0


def test_a_chunk_that_is_opened_counts_the_layers_that_are_read(
    tmp_path: Path, make_chunk: MakeChunk
) -> None:
    meter = Meter()
    store, chunk = DiskStore(tmp_path, meter=meter), make_chunk(1)
    store.put(chunk)
    meter.take()
    reader = store.open(chunk.record)
    assert reader is not None
    assert counts(meter.take()) == {"hits disk": 1}
    reader.layer(0)
    reader.layer(2)
    assert counts(meter.take()) == {"bytes disk read": chunk.num_bytes * 2 // 3}


@pytest.mark.parametrize("place", [0, -1])  # the header, found at once, or a layer, found when it is read
def test_damage_is_counted_once_and_a_damaged_chunk_is_then_absent(
    tmp_path: Path, make_chunk: MakeChunk, place: int
) -> None:
    meter = Meter()
    store, chunk = DiskStore(tmp_path, meter=meter), make_chunk(1)
    store.put(chunk)
    meter.take()
    path = store.path(chunk.record.chunk_id)
    data = bytearray(path.read_bytes())
    # From the back: ids, before them the last layer.
    data[place if place == 0 else -200] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptChunk):
        store.get(chunk.record)
    looked_up = {"misses disk": 1} if place == 0 else {"hits disk": 1}
    assert counts(meter.take()) == {"corrupt disk": 1, **looked_up}
    assert store.get(chunk.record) is None
    assert counts(meter.take()) == {"misses disk": 1}


def test_the_disk_counts_what_the_budget_evicts_and_nothing_that_was_refused(
    tmp_path: Path, make_chunk: MakeChunk
) -> None:
    meter, chunks = Meter(), [make_chunk(seed) for seed in range(5)]
    store = DiskStore(tmp_path, meter=meter)
    store.put(chunks[0])
    size = store.path(chunks[0].record.chunk_id).stat().st_size
    store.budget_bytes = 2 * size
    for chunk in chunks[1:]:
        store.put(chunk)
    assert counts(meter.take()) == {"evictions disk": 3, "bytes disk write": 5 * chunks[0].num_bytes}
    with pytest.raises(StoreFull):
        store.put(make_chunk(9, tokens=500))
    assert not meter.take()
    assert len(store.shrink(size)) == 1
    assert counts(meter.take()) == {"evictions disk": 1}


@pytest.mark.parametrize("by_layer", [False, True])
def test_memory_and_disk_count_apart_what_goes_through_both(
    tmp_path: Path, make_chunk: MakeChunk, by_layer: bool
) -> None:
    meter, chunk = Meter("rank 0"), make_chunk(1)
    store = open_store(StoreConfig(path=tmp_path, memory_bytes=10_000), tmp_path, meter)
    size = chunk.num_bytes

    def read() -> None:
        reader = store.open(chunk.record)
        assert reader is not None
        if by_layer:
            for index in range(reader.num_layers):
                reader.layer(index)
        else:
            reader.chunk()

    store.put(chunk)
    assert counts(meter.take()) == {"bytes disk write": size}  # what is written in bulk is not kept
    read()
    first = meter.take()
    assert counts(first) == {
        "misses memory": 1,
        "hits disk": 1,
        "bytes disk read": size,
        "bytes memory write": size,
    }
    assert first.levels == {("kvblend_store_held_bytes", ("memory", "rank 0")): size}
    assert seconds(first, "memory", WRITE) > 0
    read()
    assert counts(meter.take()) == {"hits memory": 1, "bytes memory read": size}
    assert store.get(chunk.record) is not None
    assert counts(meter.take()) == {"hits memory": 1, "bytes memory read": size}


def test_memory_counts_what_goes_for_want_of_room_but_not_what_is_deleted(
    tmp_path: Path, make_chunk: MakeChunk
) -> None:
    meter, chunks = Meter(), [make_chunk(seed) for seed in range(4)]
    size = chunks[0].num_bytes
    store = CachedStore(DiskStore(tmp_path), 2 * size, meter)
    for chunk in chunks:
        store.put(chunk)
        store.get(chunk.record)
    readings = meter.take()
    assert counts(readings) == {"misses memory": 4, "evictions memory": 2, "bytes memory write": 4 * size}
    assert list(readings.levels.values()) == [2 * size]
    store.delete(chunks[3].record.chunk_id)
    readings = meter.take()
    assert not readings.counts and list(readings.levels.values()) == [size]
    assert store.get(make_chunk(7).record) is None
    assert counts(meter.take()) == {"misses memory": 1}


def test_what_memory_cannot_hold_is_no_write_to_it(tmp_path: Path, make_chunk: MakeChunk) -> None:
    meter, chunk = Meter(), make_chunk(1)
    store = CachedStore(DiskStore(tmp_path), chunk.num_bytes - 1, meter)
    store.put(chunk)
    assert store.get(chunk.record) is not None
    reader = store.open(chunk.record)
    assert reader is not None and reader.chunk().num_bytes == chunk.num_bytes
    assert counts(meter.take()) == {"misses memory": 2}


def test_a_remote_counts_what_goes_through_it_and_whether_its_circuit_is_open(
    tmp_path: Path, make_chunk: MakeChunk
) -> None:
    server, meter, chunks = RedisServer(), Meter("rank 0"), [make_chunk(seed) for seed in range(3)]
    url = f"redis://127.0.0.1:{server.port}"
    config = StoreConfig(path=tmp_path, memory_bytes=0, remote=url, remote_deadline_ms=20_000)
    store = open_store(config, tmp_path / "models" / "a-mark" / "chunks", meter)
    assert isinstance(store, BackedStore)
    chunk, other, absent = chunks
    size = chunk.num_bytes
    state = "kvblend_remote_circuit_open", ("rank 0",)
    assert meter.take().levels[state] == 0
    store.far.put(chunk)
    store.far.put(other)
    assert counts(meter.take()) == {"bytes remote write": 2 * size}
    assert store.get(chunk.record) is not None and store.get(absent.record) is None
    store.settle()
    read = counts(meter.take())
    assert read.pop("misses disk") == 2 and read.pop("bytes disk write") == size  # it is promoted
    assert read == {"hits remote": 1, "misses remote": 1, "bytes remote read": size}
    reader = store.far.open(other.record)
    assert reader is not None
    reader.layer(0)
    assert counts(meter.take()) == {"hits remote": 1, "bytes remote read": size // 3}
    assert store.far.shrink(0) and counts(meter.take()) == {"evictions remote": 2}
    server.kill()
    for _ in range(3):
        assert store.far.get(other.record) is None
    dead = meter.take()
    assert dead.levels[state] == 1 and counts(dead)["misses remote"] == 3
    assert dead.counts["kvblend_remote_failures", ()] == 1
    assert dead.counts["kvblend_remote_skipped", ()] >= 2
    server.start()
    wait_for(lambda: meter.take().levels.get(state) == 0)
    store.far.close()
