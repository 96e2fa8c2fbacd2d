"""Chunks of a blend come layer by layer beside the engine's steps, and nothing that goes wrong is raised."""

import threading
import time
from collections.abc import Callable
from itertools import count
from types import SimpleNamespace

import pytest
import torch

from blend.chunks.chunk import ChunkKV, ChunkRecord, make_record
from blend.errors import CorruptChunk
from blend.store.handle import ChunkHandle
from blend.store.tiers.memory import MemoryStore
from blend.vllm.job import reading as module
from blend.vllm.job.reading import MAX_THREADS, Reading

LAYERS = 4
LONG_S = 60.0


def chunk(number: int) -> ChunkKV:
    rows = torch.full((LAYERS, 3, 1, 4), float(number))
    return ChunkKV(make_record("m", (), range(number, number + 3)), rows, rows + 0.5)


class Troubled(MemoryStore):
    """Holds openings and layers until they are let go; damaged and broken chunks raise.

    Attributes:
        opening: openings that have begun.
        order: layers as they were asked for.
        may_give: whether a layer may be given, for each.
        trouble: what the opening of a chunk raises.
        trouble_at: what a layer of a chunk raises.
    """

    def __init__(self, chunks: list[ChunkKV], *, is_held: bool = False) -> None:
        super().__init__()
        self.may_open = threading.Event()
        self.may_give = [threading.Event() for _ in range(LAYERS)]
        self.opening = 0
        self.order: list[int] = []
        self.trouble: dict[str, Exception] = {}
        self.trouble_at: dict[tuple[str, int], Exception] = {}
        for one in chunks:
            self.put(one)
        if not is_held:
            self.may_open.set()
            self.give(LAYERS)

    def give(self, num_layers: int) -> None:
        for event in self.may_give[:num_layers]:
            event.set()

    def get(self, record: ChunkRecord) -> ChunkKV | None:
        self._begin(record)
        return super().get(record)

    def open(self, record: ChunkRecord) -> ChunkHandle | None:
        self._begin(record)
        found = super().get(record)
        return None if found is None else Slow(found, self)

    def _begin(self, record: ChunkRecord) -> None:
        self.opening += 1
        self.may_open.wait(LONG_S)
        if record.chunk_id in self.trouble:
            raise self.trouble[record.chunk_id]


class Slow(ChunkHandle):
    """Its layers are the store's to give."""

    def __init__(self, held: ChunkKV, store: Troubled) -> None:
        super().__init__(held)
        self._store = store

    def layer(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        self._store.order.append(index)
        self._store.may_give[index].wait(LONG_S)
        trouble = self._store.trouble_at.get((self.record.chunk_id, index))
        if trouble is not None:
            raise trouble
        return super().layer(index)


def until(is_so: Callable[[], bool]) -> None:
    begun = time.monotonic()
    while not is_so():
        assert time.monotonic() - begun < LONG_S


def records(chunks: list[ChunkKV]) -> list[ChunkRecord]:
    return [one.record for one in chunks]


@pytest.mark.parametrize("background", [False, True])
def test_what_cannot_be_found_is_absent(background: bool) -> None:
    chunks = [chunk(n) for n in range(4)]
    store = Troubled(chunks[:3])
    store.trouble[chunks[1].record.chunk_id] = CorruptChunk("damaged")
    store.trouble[chunks[2].record.chunk_id] = OSError("broken")
    wanted = records([*chunks, chunks[0]])
    reading = Reading(store, wanted, LAYERS, background=background)
    until(reading.is_open)
    first, *others, again = reading.chunks(wanted)
    assert first is again and first is not None and others == [None] * 3
    assert store.opening == 4, "a chunk that stands twice is read once"
    for layer in range(LAYERS):
        until(lambda layer=layer: reading.has(layer))
        keys, values = first.layer(layer)
        assert torch.equal(keys, chunks[0].keys[layer]) and torch.equal(values, chunks[0].values[layer])
    assert not reading.lost


def test_without_threads_each_look_reads_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = [chunk(n) for n in range(3)]
    store = Troubled(chunks)
    monkeypatch.setattr(module, "SLICE_S", 0.0)
    assert not Reading(store, records(chunks), LAYERS, background=False).is_open() and store.opening == 0
    ticks = count()
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    monkeypatch.setattr(module, "SLICE_S", 1.5)  # one chunk a look, by that clock
    reading = Reading(store, records(chunks), LAYERS, background=False)
    assert [reading.is_open() for _ in range(3)] == [False, False, True]
    assert store.opening == 3 and None not in reading.chunks(records(chunks))


def test_all_chunks_are_found_side_by_side_before_a_layer_is_read() -> None:
    chunks = [chunk(n) for n in range(MAX_THREADS)]
    store = Troubled(chunks, is_held=True)
    reading = Reading(store, records(chunks), LAYERS, background=True)
    until(lambda: store.opening == MAX_THREADS)
    assert not reading.is_open() and not reading.has(0) and not store.order
    store.may_open.set()
    until(reading.is_open)
    assert not reading.has(0)
    store.give(LAYERS)
    until(lambda: reading.has(LAYERS - 1))


def test_layers_come_in_their_order_and_the_first_is_there_before_the_last() -> None:
    chunks = [chunk(n) for n in range(2)]
    store = Troubled(chunks, is_held=True)
    store.may_open.set()
    reading = Reading(store, records(chunks), LAYERS, background=True)
    until(reading.is_open)
    for layer in range(LAYERS):
        assert not reading.has(layer)
        store.give(layer + 1)
        until(lambda layer=layer: reading.has(layer))
    assert sorted(store.order) == store.order == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("trouble", [CorruptChunk("damaged"), OSError("broken")])
def test_a_chunk_whose_layer_cannot_be_read_is_lost_and_the_others_come(trouble: Exception) -> None:
    chunks = [chunk(n) for n in range(3)]
    store = Troubled(chunks, is_held=True)
    store.trouble_at[chunks[1].record.chunk_id, 2] = trouble
    store.may_open.set()
    reading = Reading(store, records(chunks), LAYERS, background=True)
    store.give(2)
    until(lambda: reading.has(1))
    assert not reading.lost and None not in reading.chunks(records(chunks))
    store.give(LAYERS)
    for layer in range(LAYERS):
        until(lambda layer=layer: reading.has(layer))
    assert reading.lost == {chunks[1].record.chunk_id}
    first, lost, third = reading.chunks(records(chunks))
    assert lost is None and first is not None and third is not None
    assert torch.equal(third.layer(3)[0], chunks[2].keys[3])


def test_a_reading_that_was_ended_reads_no_more() -> None:
    chunks = [chunk(n) for n in range(2)]
    store = Troubled(chunks, is_held=True)
    store.may_open.set()
    reading = Reading(store, records(chunks), LAYERS, background=True)
    until(lambda: len(store.order) == 2)
    reading.end()
    store.give(LAYERS)
    time.sleep(0.05)
    assert store.order == [0, 0]


@pytest.mark.parametrize("background", [False, True])
def test_nothing_to_read_is_there_at_once(background: bool) -> None:
    reading = Reading(MemoryStore(), [], LAYERS, background=background)
    assert reading.is_open() and reading.has(LAYERS - 1) and reading.chunks([]) == []
