"""Chunks of a blend are read beside the engine's steps, and nothing that goes wrong with one is raised."""

import threading
import time

import pytest
import torch

from blend.chunk import ChunkKV, ChunkRecord, make_record
from blend.errors import CorruptChunk
from blend.store.memory import MemoryStore
from blend.vllm.reading import Reading


def chunk(number: int) -> ChunkKV:
    rows = torch.full((2, 3, 1, 4), float(number))
    return ChunkKV(make_record("m", (), range(number, number + 3)), rows, rows)


class Troubled(MemoryStore):
    """Holds a read until it is let go; damaged and broken chunks raise."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go_on = threading.Event()
        self.reading = 0
        self.trouble: dict[str, Exception] = {}

    def get(self, record: ChunkRecord) -> ChunkKV | None:
        self.reading += 1
        self.may_go_on.wait(60)
        if record.chunk_id in self.trouble:
            raise self.trouble[record.chunk_id]
        return super().get(record)


@pytest.mark.parametrize("beside", [True, False])
def test_what_cannot_be_read_is_absent(beside: bool) -> None:
    store, chunks = Troubled(), [chunk(n) for n in range(4)]
    store.may_go_on.set()
    for one in chunks[:3]:
        store.put(one)
    store.trouble[chunks[1].record.chunk_id] = CorruptChunk("damaged")
    store.trouble[chunks[2].record.chunk_id] = OSError("broken")
    records = [one.record for one in (*chunks, chunks[0])]
    reading = Reading(store, records, beside=beside)
    while not reading.is_done():
        assert beside
    found = reading.chunks(records)
    assert found[0] is found[4] is chunks[0] and found[1:4] == [None] * 3
    assert store.reading == 4, "a chunk that stands twice is read once"


def test_chunks_come_side_by_side_while_others_go_on() -> None:
    store, chunks = Troubled(), [chunk(n) for n in range(5)]
    for one in chunks:
        store.put(one)
    reading = Reading(store, [one.record for one in chunks], beside=True)
    begun = time.monotonic()
    while store.reading < 5:
        assert time.monotonic() - begun < 60
    assert not reading.is_done() and not reading.is_done()
    store.may_go_on.set()
    while not reading.is_done():
        assert time.monotonic() - begun < 60
    assert reading.chunks([one.record for one in chunks]) == chunks


def test_nothing_to_read_is_done_at_once() -> None:
    assert Reading(MemoryStore(), [], beside=True).is_done()
