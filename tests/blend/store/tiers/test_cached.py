"""What the memory tier in front of another store adds: fewer reads, a budget, no tie to the file."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from blend.chunks.chunk import ChunkKV, ChunkRecord
from blend.store.tiers.cached import CachedStore
from blend.store.tiers.disk import DiskStore
from blend.store.tiers.memory import MemoryStore

MakeChunk = Callable[..., ChunkKV]


class CountingStore(MemoryStore):
    """Remembers the ids that were read from it."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []
        self.touches: list[str] = []

    def get(self, record: ChunkRecord) -> ChunkKV | None:
        self.reads.append(record.chunk_id)
        return super().get(record)

    def touch(self, chunk_id: str) -> None:
        self.touches.append(chunk_id)


def test_least_recently_used_goes_first(make_chunk: MakeChunk) -> None:
    inner = CountingStore()
    chunks = [make_chunk(seed) for seed in range(3)]
    store = CachedStore(inner, budget_bytes=2 * chunks[0].num_bytes)
    for chunk in chunks:
        store.put(chunk)
    a, b, c = (chunk.record for chunk in chunks)
    for record in (a, b, a, c, a, b):  # c evicts b, not a
        store.get(record)
    assert inner.reads == [r.chunk_id for r in (a, b, c, b)]


def test_the_budget_holds(make_chunk: MakeChunk) -> None:
    store = CachedStore(MemoryStore(), budget_bytes=3000)
    for seed in range(12):
        chunk = make_chunk(seed, tokens=2 + seed)
        store.put(chunk)
        store.get(chunk.record)
        assert 0 <= store.held_bytes <= 3000
    for seed in range(12):
        store.delete(make_chunk(seed, tokens=2 + seed).record.chunk_id)
    assert store.held_bytes == 0


def test_a_chunk_over_the_budget_passes_through_and_evicts_nothing(make_chunk: MakeChunk) -> None:
    inner = CountingStore()
    small, large = make_chunk(1), make_chunk(2, tokens=50)
    store = CachedStore(inner, budget_bytes=small.num_bytes)
    for chunk in (small, large):
        store.put(chunk)
        store.get(chunk.record)
    store.get(small.record)
    got = store.get(large.record)
    assert got is not None
    assert torch.equal(got.keys, large.keys)
    assert inner.reads == [r.record.chunk_id for r in (small, large, large)]


@pytest.mark.parametrize("damage", ["flip", "truncate"])
def test_a_file_damaged_after_it_was_verified_changes_nothing(
    tmp_path: Path, make_chunk: MakeChunk, damage: str
) -> None:
    chunk = make_chunk(1, tokens=2000)
    store = CachedStore(DiskStore(tmp_path), budget_bytes=10_000_000)
    store.put(chunk)
    held = store.get(chunk.record)
    path = tmp_path / f"{chunk.record.chunk_id}.safetensors"
    with open(path, "r+b") as file:
        if damage == "truncate":
            file.truncate(10)  # reading a mapped page beyond this would kill the process
        else:
            file.seek(-1000, 2)
            file.write(b"\xff" * 1000)
    assert held is not None
    assert torch.equal(held.keys, chunk.keys)
    assert torch.equal(held.values, chunk.values)
    assert store.get(chunk.record) is held


def test_a_chunk_is_kept_when_its_last_layer_was_read(make_chunk: MakeChunk) -> None:
    inner, chunk = CountingStore(), make_chunk(1)
    inner.put(chunk)
    store = CachedStore(inner, budget_bytes=10_000)
    reader = store.open(chunk.record)
    assert reader is not None
    for index in (2, 0):
        reader.layer(index)
    assert store.held_bytes == 0
    reader.layer(1)
    assert store.held_bytes == chunk.num_bytes
    again = store.open(chunk.record)
    assert again is not None
    assert torch.equal(again.layer(1)[0], chunk.keys[1])
    assert inner.reads == [chunk.record.chunk_id]


def test_pinned_chunks_go_last(make_chunk: MakeChunk) -> None:
    inner = CountingStore()
    chunks = [make_chunk(seed) for seed in range(4)]
    store = CachedStore(inner, budget_bytes=2 * chunks[0].num_bytes)
    for chunk in chunks:
        store.put(chunk)
    a, b, c, d = (chunk.record for chunk in chunks)
    store.pin(a.chunk_id)
    for record in (a, b, c, a):  # c evicts b, though a is older
        store.get(record)
    assert inner.reads == [r.chunk_id for r in (a, b, c)]
    store.pin(c.chunk_id)
    store.get(c)
    store.get(d)  # only pinned ones are left: the older of them goes
    store.get(c)
    store.get(a)
    assert inner.reads == [r.chunk_id for r in (a, b, c, d, a)]


def test_a_use_that_the_memory_answers_is_told_to_the_tier_behind(make_chunk: MakeChunk) -> None:
    inner, chunk = CountingStore(), make_chunk(1)
    store = CachedStore(inner, budget_bytes=10_000)
    store.put(chunk)
    store.get(chunk.record)
    assert inner.touches == []
    store.get(chunk.record)
    store.open(chunk.record)
    assert inner.touches == [chunk.record.chunk_id] * 2
