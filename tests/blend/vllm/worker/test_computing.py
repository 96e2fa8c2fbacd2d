"""Chunks that a worker has computed are written beside the engine's steps, on all ranks in the same steps."""

import threading
from collections.abc import Callable, Generator
from typing import Any, ClassVar

import torch

from blend.chunks.chunk import ChunkKV, make_record
from blend.errors import StoreFull
from blend.store.tiers.cached import CachedStore
from blend.store.tiers.memory import MemoryStore
from blend.vllm.worker.computing import Computing, Stored


class OneRank:
    """The writing rank, by itself."""

    rank = 0

    def all_true(self, flags: list[bool]) -> list[bool]:
        return flags


class TwoRanks:
    """One of two ranks in threads, which wait for each other in every vote."""

    _barrier = threading.Barrier(2, timeout=30)
    _votes: ClassVar[dict[int, list[bool]]] = {}

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def all_true(self, flags: list[bool]) -> list[bool]:
        self._votes[self.rank] = flags
        self._barrier.wait()
        both = [one and other for one, other in zip(*self._votes.values(), strict=True)]
        self._barrier.wait()
        return both


class SlowStore(MemoryStore):
    """Writes when it is let; is full from some chunk on."""

    def __init__(self, room: int = 10) -> None:
        super().__init__()
        self.may_write = threading.Event()
        self._room = room

    def put(self, chunk: ChunkKV) -> None:
        self.may_write.wait(60)
        if len(list(self.ids())) >= self._room:
            raise StoreFull("no space left")
        super().put(chunk)


def chunk(number: int) -> ChunkKV:
    rows = torch.full((2, 3, 1, 4), float(number))
    return ChunkKV(make_record("m", (), range(number, number + 3)), rows, rows)


CHUNKS = [chunk(number) for number in range(3)]


def writing(store: SlowStore, ranks: Any) -> Generator[None, None, Stored]:
    anything: Any = None
    return Computing(anything, anything, ranks)._put_all(store, CHUNKS)


def finished(steps: Generator[None, None, Stored]) -> tuple[Stored, int]:
    """What they come to, and how many they were."""
    for number in range(100_000):
        try:
            next(steps)
        except StopIteration as done:
            return done.value, number
    raise AssertionError("it does not end")


def test_the_engine_goes_on_while_a_chunk_is_written() -> None:
    store = SlowStore()
    steps = writing(store, OneRank())
    for _ in range(20):  # without waiting: the store may not write yet
        next(steps)
    assert not list(store.ids())
    store.may_write.set()
    assert finished(steps)[0] == Stored(sum(one.num_bytes for one in CHUNKS))
    assert len(list(store.ids())) == 3


def test_a_full_store_ends_it_with_what_was_stored() -> None:
    store = SlowStore(room=2)
    store.may_write.set()
    stored, _ = finished(writing(store, OneRank()))
    assert stored == Stored(2 * CHUNKS[0].num_bytes, "StoreFull", "no space left")


def test_all_ranks_end_in_the_same_step_when_the_one_that_writes_fails() -> None:
    store, found = SlowStore(room=1), {}
    store.may_write.set()

    def run(rank: int) -> Callable[[], None]:
        return lambda: found.update({rank: finished(writing(store, TwoRanks(rank)))})

    threads = [threading.Thread(target=run(rank), daemon=True) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found[0][1] == found[1][1], "or one of them would wait for the other's vote for ever"
    assert found[0][0].kind == "StoreFull" and found[1][0].problem


def test_a_prefix_that_was_removed_from_the_disk_is_computed_again_though_memory_holds_it() -> None:
    disk = MemoryStore()
    store = CachedStore(disk, budget_bytes=1 << 20)
    prefix, computed = chunk(1), []
    store.put(prefix)
    assert store.get(prefix.record) is not None

    def compute(records: list[Any], piece_tokens: int) -> Generator[None, None, list[ChunkKV]]:
        computed.extend(records)
        yield
        return [prefix]

    computing = Computing(None, None, OneRank())  # type: ignore[arg-type]
    computing._behind_nothing = compute  # type: ignore[method-assign, assignment]
    assert not run_to_end(computing._prefix(prefix.record, store, 128))[1] and not computed
    disk.delete(prefix.record.chunk_id)
    assert run_to_end(computing._prefix(prefix.record, store, 128))[1]
    assert computed == [prefix.record]


def run_to_end(steps: Generator[None, None, tuple[ChunkKV, bool]]) -> tuple[ChunkKV, bool]:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
