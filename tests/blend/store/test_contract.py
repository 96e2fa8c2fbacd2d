"""What every chunk store does, whatever tier it is."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blend.chunks.chunk import ChunkKV, ChunkRecord, PositionGap, make_record
from blend.errors import CorruptChunk
from blend.store.base import ChunkStore
from blend.store.remote.remote import RemoteStore
from blend.store.tiers.backed import BackedStore
from blend.store.tiers.cached import CachedStore
from blend.store.tiers.device import DeviceStore, place_on
from blend.store.tiers.disk import DiskStore
from blend.store.tiers.memory import MemoryStore
from tests.support.storage_servers import cluster_url, mark_of_path, redis_url, s3_url

MakeChunk = Callable[..., ChunkKV]


def remote(url: Callable[[], str], budget_bytes: int | None = None) -> Callable[[Path], RemoteStore]:
    """A remote of a model of its own."""
    return lambda path: RemoteStore(url(), mark_of_path(path), budget_bytes, deadline_ms=20_000)


def on_device(kind: str) -> Callable[[Path], DeviceStore]:
    """A device of some two chunks before a memory of some four."""

    def make(root: Path) -> DeviceStore:
        place = place_on(torch.device(kind), slice(None))
        return DeviceStore(CachedStore(DiskStore(root), budget_bytes=3000), 1500, place)

    return make


STORES: dict[str, Callable[[Path], ChunkStore]] = {
    "memory": lambda _: MemoryStore(),
    "disk": DiskStore,
    "disk with a budget": lambda root: DiskStore(root, budget_bytes=1 << 20),
    "cached": lambda root: CachedStore(DiskStore(root), budget_bytes=1500),  # some two chunks
    "twice cached": lambda root: CachedStore(CachedStore(DiskStore(root), 1500), budget_bytes=700),
    "device": on_device("cpu"),
    "cuda": on_device("cuda"),
    "redis": remote(redis_url),
    "redis with a budget": remote(redis_url, 1 << 20),
    "redis cluster": remote(cluster_url),
    "s3": remote(s3_url),
    "disk before redis": lambda root: BackedStore(DiskStore(root), remote(redis_url)(root)),
    "memory before redis": lambda root: CachedStore(remote(redis_url)(root), budget_bytes=1500),
}


NEEDS_CUDA = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))
NAMES = [pytest.param(name, marks=NEEDS_CUDA if name == "cuda" else ()) for name in sorted(STORES)]


@pytest.fixture(params=NAMES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ChunkStore:
    return STORES[request.param](tmp_path / "chunks")


def same(one: ChunkKV | None, other: ChunkKV) -> bool:
    """Bit for bit."""
    assert one is not None
    pairs = [(one.keys, other.keys), (one.values, other.values)]
    return one.record == other.record and all(
        a.dtype == b.dtype and torch.equal(a.cpu(), b.cpu()) for a, b in pairs
    )


@pytest.mark.parametrize("prefix", [0, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_was_put_is_got_bit_for_bit(
    store: ChunkStore, make_chunk: MakeChunk, dtype: torch.dtype, prefix: int
) -> None:
    chunk = make_chunk(1, dtype=dtype, prefix=prefix)
    store.put(chunk)
    for _ in range(2):  # the second time from a cache, where there is one
        assert same(store.get(chunk.record), chunk)
    assert store.record(chunk.record.chunk_id) == chunk.record


def test_positions_left_out_are_part_of_what_a_chunk_is(store: ChunkStore, make_chunk: MakeChunk) -> None:
    near, far = make_chunk(1), make_chunk(1, position_gap=PositionGap(after=2, by=1000))
    assert near.record.chunk_id != far.record.chunk_id
    for chunk in (near, far):
        store.put(chunk)
        assert same(store.get(chunk.record), chunk)
    assert store.record(far.record.chunk_id) == far.record


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1,), (0, 0, 2)])
def test_layers_are_read_one_by_one_in_any_order(
    store: ChunkStore, make_chunk: MakeChunk, order: tuple[int, ...], dtype: torch.dtype
) -> None:
    chunk = make_chunk(1, dtype=dtype)
    store.put(chunk)
    for _ in range(2):  # the second time from a cache, where there is one
        reader = store.open(chunk.record)
        assert reader is not None
        assert reader.record == chunk.record and reader.num_layers == 3
        for index in order:
            keys, values = reader.layer(index)
            assert keys.dtype == values.dtype == dtype
            assert torch.equal(keys.cpu(), chunk.keys[index])
            assert torch.equal(values.cpu(), chunk.values[index])
    assert same(reader.chunk(), chunk)


def test_an_open_chunk_stays_readable_when_it_is_deleted(store: ChunkStore, make_chunk: MakeChunk) -> None:
    chunk = make_chunk(1)
    store.put(chunk)
    reader = store.open(chunk.record)
    assert reader is not None
    first = reader.layer(0)
    store.delete(chunk.record.chunk_id)
    assert store.open(chunk.record) is None
    assert torch.equal(reader.layer(2)[1].cpu(), chunk.values[2])
    assert torch.equal(first[0].cpu(), chunk.keys[0])


def test_threads_read_layers_of_one_chunk_side_by_side(store: ChunkStore, make_chunk: MakeChunk) -> None:
    chunk = make_chunk(1, tokens=200)
    store.put(chunk)
    reader = store.open(chunk.record)
    assert reader is not None
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(reader.layer, [i % 3 for i in range(60)]))
    assert all(torch.equal(keys.cpu(), chunk.keys[i % 3]) for i, (keys, _) in enumerate(read))
    assert same(reader.chunk(), chunk)


def test_pins(store: ChunkStore, make_chunk: MakeChunk) -> None:
    chunk = make_chunk(1)
    key = chunk.record.chunk_id
    store.put(chunk)
    assert not store.is_pinned(key)
    store.pin(key)
    store.pin(key)
    assert store.is_pinned(key)
    store.touch(key)
    assert list(store.ids()) == [key]
    with pytest.raises(CorruptChunk):
        store.get(replace(chunk.record, token_ids=(9, 9, 9, 9, 9)))
    assert key not in store and store.is_pinned(key)  # damage does not take it off
    store.put(chunk)
    store.unpin(key)
    store.unpin(key)
    assert not store.is_pinned(key)
    store.pin(key)
    store.delete(key)
    assert not store.is_pinned(key)


def test_absent(store: ChunkStore, make_chunk: MakeChunk) -> None:
    record = make_chunk(1).record
    assert store.get(record) is None
    assert store.open(record) is None
    assert store.record(record.chunk_id) is None
    store.touch(record.chunk_id)
    assert record.chunk_id not in store
    assert 7 not in store
    assert list(store.ids()) == []
    store.delete(record.chunk_id)


def test_ids_contains_and_delete(store: ChunkStore, make_chunk: MakeChunk) -> None:
    one, two = make_chunk(1), make_chunk(2)
    store.put(one)
    store.put(two)
    store.put(one)
    assert sorted(store.ids()) == sorted([one.record.chunk_id, two.record.chunk_id])
    assert same(store.get(one.record), one)
    store.delete(one.record.chunk_id)
    assert one.record.chunk_id not in store
    assert store.get(one.record) is None
    assert list(store.ids()) == [two.record.chunk_id]


def test_other_tokens_under_an_id_are_dropped_never_returned(
    store: ChunkStore, make_chunk: MakeChunk
) -> None:
    chunk = make_chunk(1)
    store.put(chunk)
    assert same(store.get(chunk.record), chunk)
    forged = replace(chunk.record, token_ids=(9, 9, 9, 9, 9))
    with pytest.raises(CorruptChunk, match=chunk.record.chunk_id):
        store.get(forged)
    assert chunk.record.chunk_id not in store


def test_other_prefix_under_an_id_is_dropped(store: ChunkStore, make_chunk: MakeChunk) -> None:
    chunk = make_chunk(1)
    store.put(chunk)
    with pytest.raises(CorruptChunk):
        store.get(replace(chunk.record, prefix_ids=()))


def test_generation_differs_after_every_change_however_quick(
    store: ChunkStore, make_chunk: MakeChunk
) -> None:
    seen = [store.generation()]
    for seed in range(5):
        store.put(make_chunk(seed))
        seen.append(store.generation())
    store.delete(make_chunk(0).record.chunk_id)
    seen.append(store.generation())
    assert len(set(seen)) == len(seen)


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["put", "get", "layers", "delete", "ids", "pin", "unpin"]), st.integers(0, 4)),
    max_size=25,
)


@pytest.mark.parametrize("name", [one for one in NAMES if one.values[0] != "memory"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=OPERATIONS)
def test_any_order_of_calls_gives_what_the_naive_twin_gives(
    name: str,
    operations: list[tuple[str, int]],
    tmp_path_factory: pytest.TempPathFactory,
    make_chunk: MakeChunk,
) -> None:
    store, twin = STORES[name](tmp_path_factory.mktemp("store")), MemoryStore()
    for operation, seed in operations:
        chunk = make_chunk(seed, tokens=3 + seed)
        if operation == "put":
            store.put(chunk)
            twin.put(chunk)
        elif operation == "delete":
            store.delete(chunk.record.chunk_id)
            twin.delete(chunk.record.chunk_id)
        elif operation == "ids":
            assert sorted(store.ids()) == sorted(twin.ids())
        elif operation in ("pin", "unpin"):
            getattr(store, operation)(chunk.record.chunk_id)
            getattr(twin, operation)(chunk.record.chunk_id)
        else:
            expected = twin.get(chunk.record)
            got = store.get(chunk.record) if operation == "get" else by_layers(store, chunk.record)
            assert got is None if expected is None else same(got, expected)
        assert store.is_pinned(chunk.record.chunk_id) == twin.is_pinned(chunk.record.chunk_id)


def by_layers(store: ChunkStore, record: ChunkRecord) -> ChunkKV | None:
    reader = store.open(record)
    if reader is None:
        return None
    keys, values = zip(*map(reader.layer, range(reader.num_layers)), strict=True)
    return ChunkKV(reader.record, torch.stack(keys), torch.stack(values))


def test_a_record_of_no_tokens_is_a_chunk_too(store: ChunkStore) -> None:
    empty = torch.zeros(3, 0, 2, 4)
    chunk = ChunkKV(make_record("model", (), ()), empty, empty.clone())
    store.put(chunk)
    assert same(store.get(chunk.record), chunk)
