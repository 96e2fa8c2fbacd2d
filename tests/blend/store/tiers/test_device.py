"""What the device tier adds: hot chunks where the model runs, with one rank's heads, within a budget."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from blend.chunks.chunk import ChunkKV
from blend.report.metrics import Meter
from blend.store.base import ChunkStore
from blend.store.config import StoreConfig
from blend.store.stack import open_store
from blend.store.tiers.cached import CachedStore
from blend.store.tiers.device import DeviceStore, place_on
from blend.store.tiers.disk import DiskStore
from blend.store.tiers.memory import MemoryStore
from blend.store.tiers.place import ALL_HEADS, Place

MakeChunk = Callable[..., ChunkKV]
NEEDS_CUDA = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=NEEDS_CUDA)])
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


def counts(meter: Meter) -> dict[str, float]:
    """What was counted of each tier, but for the time it took."""
    return {
        f"{name.removeprefix('kvblend_store_')} {' '.join(labels)}": value
        for (name, labels), value in meter.take().counts.items()
        if name != "kvblend_store_seconds"
    }


def test_a_hot_chunk_lies_on_the_device_and_is_given_as_it_lies(
    tmp_path: Path, make_chunk: MakeChunk, device: torch.device
) -> None:
    meter, chunk = Meter(), make_chunk(1)
    memory = CachedStore(DiskStore(tmp_path, meter=meter), 10_000, meter)
    store, size = DeviceStore(memory, 10_000, place_on(device, ALL_HEADS), meter), chunk.num_bytes
    store.put(chunk)
    meter.take()
    first = store.get(chunk.record)
    assert first is not None and first.keys.device.type == first.values.device.type == device.type
    assert torch.equal(first.keys.cpu(), chunk.keys) and torch.equal(first.values.cpu(), chunk.values)
    assert counts(meter) == {
        "misses device": 1,
        "misses memory": 1,
        "hits disk": 1,
        "bytes disk read": size,
        "bytes memory write": size,
        "bytes device write": size,
    }
    again = store.get(chunk.record)
    assert again is not None and again.keys is first.keys, "nothing is copied"
    assert counts(meter) == {"hits device": 1, "bytes device read": size}


@pytest.mark.parametrize("by_layer", [False, True])
def test_each_rank_holds_its_own_heads(make_chunk: MakeChunk, device: torch.device, by_layer: bool) -> None:
    inner, chunk = MemoryStore(), make_chunk(1)
    inner.put(chunk)
    ranks = [DeviceStore(inner, 10_000, place_on(device, slice(rank, rank + 1))) for rank in range(2)]
    for rank, store in enumerate(ranks):
        for _ in range(2):  # read from behind, and kept
            reader = store.open(chunk.record) if by_layer else None
            got = reader.chunk() if reader is not None else store.get(chunk.record)
            assert got is not None
            assert torch.equal(got.keys.cpu(), chunk.keys[:, :, rank : rank + 1])
            assert torch.equal(got.values.cpu(), chunk.values[:, :, rank : rank + 1])
        assert store.held_bytes == chunk.num_bytes // 2


@pytest.mark.parametrize("by_layer", [False, True])
@pytest.mark.parametrize("device_bytes", [0, 10_000])
def test_memory_and_device_of_a_rank_hold_its_own_heads(
    tmp_path: Path, make_chunk: MakeChunk, device: torch.device, device_bytes: int, by_layer: bool
) -> None:
    chunk = make_chunk(1)
    config = StoreConfig(path=tmp_path, memory_bytes=10_000, device_bytes=device_bytes, codec="raw")
    for rank in range(2):
        meter = Meter()
        own = slice(rank, rank + 1)
        store = open_store(config, tmp_path / "models" / "m" / "chunks", meter, place_on(device, own))
        store.put(chunk)
        for _ in range(2):  # read from behind, and kept
            reader = store.open(chunk.record) if by_layer else None
            got = reader.chunk() if reader is not None else store.get(chunk.record)
            assert got is not None and torch.equal(got.keys.cpu(), chunk.keys[:, :, own])
            assert torch.equal(got.values.cpu(), chunk.values[:, :, own])
        memory = store.inner if isinstance(store, DeviceStore) else store
        assert isinstance(memory, CachedStore) and memory.held_bytes == chunk.num_bytes // 2


def test_what_the_device_cannot_hold_has_the_same_heads(make_chunk: MakeChunk, device: torch.device) -> None:
    inner, chunk = MemoryStore(), make_chunk(1, tokens=50)
    inner.put(chunk)
    store = DeviceStore(inner, 100, place_on(device, slice(1, 2)))
    got = store.get(chunk.record)
    assert got is not None and torch.equal(got.keys.cpu(), chunk.keys[:, :, 1:])
    assert store.held_bytes == 0


def test_the_least_recently_used_goes_first_and_pinned_ones_last(
    make_chunk: MakeChunk, device: torch.device
) -> None:
    meter, inner = Meter(), MemoryStore()
    chunks = [make_chunk(seed) for seed in range(3)]
    a, b, c = (chunk.record for chunk in chunks)
    for chunk in chunks:
        inner.put(chunk)
    store = DeviceStore(inner, 2 * chunks[0].num_bytes, place_on(device, ALL_HEADS), meter)
    store.pin(a.chunk_id)
    for record in (a, b, c):
        store.get(record)
    meter.take()
    for record, tier in ((a, "hits"), (b, "misses")):
        store.get(record)
        assert counts(meter)[f"{tier} device"] == 1
    assert store.held_bytes == 2 * chunks[0].num_bytes


def read(store: DeviceStore, chunk: ChunkKV, *, by_layer: bool) -> ChunkKV | None:
    if not by_layer:
        return store.get(chunk.record)
    reader = store.open(chunk.record)
    assert reader is not None
    layers = [reader.layer(index) for index in range(reader.num_layers)]
    whole = reader.chunk()
    for index, (keys, values) in enumerate(layers):
        assert torch.equal(keys, whole.keys[index]) and torch.equal(values, whole.values[index])
    return whole


@pytest.mark.parametrize("by_layer", [False, True])
def test_a_chunk_is_used_from_the_host_when_the_device_has_no_room(
    make_chunk: MakeChunk, monkeypatch: pytest.MonkeyPatch, by_layer: bool
) -> None:
    def full(*_: object) -> ChunkKV:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Place, "copy", full)
    monkeypatch.setattr(Place, "space", full)
    inner: ChunkStore = MemoryStore()
    chunk = make_chunk(1)
    inner.put(chunk)
    store = DeviceStore(inner, 10_000, Place())
    got = read(store, chunk, by_layer=by_layer)
    assert got is not None and torch.equal(got.keys, chunk.keys)
    assert store.held_bytes == 0


@pytest.mark.parametrize("by_layer", [False, True])
def test_a_chunk_over_the_budget_takes_no_room(make_chunk: MakeChunk, by_layer: bool) -> None:
    inner: ChunkStore = MemoryStore()
    chunk = make_chunk(1)
    inner.put(chunk)
    store = DeviceStore(inner, chunk.num_bytes - 1, Place())
    got = read(store, chunk, by_layer=by_layer)
    assert got is not None and torch.equal(got.values, chunk.values)
    assert store.held_bytes == 0
