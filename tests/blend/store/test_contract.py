"""What every chunk store does, whatever tier it is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blend.chunk import ChunkKV, make_record
from blend.errors import CorruptChunk
from blend.store.base import ChunkStore
from blend.store.cached import CachedStore
from blend.store.disk import DiskStore
from blend.store.memory import MemoryStore

MakeChunk = Callable[..., ChunkKV]
STORES: dict[str, Callable[[Path], ChunkStore]] = {
    "memory": lambda _: MemoryStore(),
    "disk": DiskStore,
    "cached": lambda root: CachedStore(DiskStore(root), budget_bytes=1500),  # some two chunks
}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ChunkStore:
    return STORES[request.param](tmp_path / "chunks")


def same(one: ChunkKV | None, other: ChunkKV) -> bool:
    """Bit for bit."""
    assert one is not None
    pairs = [(one.keys, other.keys), (one.values, other.values)]
    if one.scores is not None and other.scores is not None:
        pairs.append((one.scores, other.scores))
    return (
        one.record == other.record
        and (one.scores is None) == (other.scores is None)
        and all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)
    )


@pytest.mark.parametrize("scores", [False, True])
@pytest.mark.parametrize("prefix", [0, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_was_put_is_got_bit_for_bit(
    store: ChunkStore, make_chunk: MakeChunk, dtype: torch.dtype, prefix: int, scores: bool
) -> None:
    chunk = make_chunk(1, dtype=dtype, prefix=prefix, scores=scores)
    store.put(chunk)
    for _ in range(2):  # the second time from a cache, where there is one
        assert same(store.get(chunk.record), chunk)
    assert store.record(chunk.record.chunk_id) == chunk.record


def test_absent(store: ChunkStore, make_chunk: MakeChunk) -> None:
    record = make_chunk(1).record
    assert store.get(record) is None
    assert store.record(record.chunk_id) is None
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
    st.tuples(st.sampled_from(["put", "get", "delete", "ids"]), st.integers(0, 4)), max_size=25
)


@pytest.mark.parametrize("name", ["disk", "cached"])
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
        else:
            expected = twin.get(chunk.record)
            got = store.get(chunk.record)
            assert got is None if expected is None else same(got, expected)


def test_a_record_of_no_tokens_is_a_chunk_too(store: ChunkStore) -> None:
    empty = torch.zeros(3, 0, 2, 4)
    chunk = ChunkKV(make_record("model", (), ()), empty, empty.clone())
    store.put(chunk)
    assert same(store.get(chunk.record), chunk)
