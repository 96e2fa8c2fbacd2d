"""Bytes that are read ahead are those that were asked for, in fewer reads."""

import random

import pytest

from blend.store import byte_source
from blend.store.byte_source import AheadBytes

DATA = bytes(random.Random(0).randbytes(1000))
BULK = range(100, 900)


class Counting:
    """A source that remembers what it was asked for."""

    num_bytes = len(DATA)

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def read(self, start: int, stop: int) -> memoryview:
        self.asked.append((start, stop))
        return memoryview(bytearray(DATA[start:stop]))


@pytest.fixture(autouse=True)
def ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_source, "AHEAD_BYTES", 200)


def test_layers_in_a_row_are_few_reads() -> None:
    counting = Counting()
    source = AheadBytes(counting, BULK)
    for start in range(100, 900, 50):
        assert source.read(start, start + 50) == DATA[start : start + 50]
    assert counting.asked == [(100, 300), (300, 500), (500, 700), (700, 900)]


def test_no_byte_is_read_twice_where_layers_do_not_divide_what_is_read_ahead() -> None:
    counting = Counting()
    source = AheadBytes(counting, BULK)
    for start, stop in [(100, 170), (170, 240), (240, 310), (310, 500), (500, 530), (530, 900)]:
        assert source.read(start, stop) == DATA[start:stop]
    assert counting.asked[0] == (100, 240)
    assert sum(stop - start for start, stop in counting.asked) == len(BULK)


def test_what_lies_beside_the_layers_is_read_as_it_is_asked_for() -> None:
    counting = Counting()
    source = AheadBytes(counting, BULK)
    assert source.read(0, 40) == DATA[:40] and source.read(950, 2000) == DATA[950:]
    assert counting.asked == [(0, 40), (950, 2000)]


def test_any_reads_give_the_bytes_that_they_ask_for() -> None:
    draw, source = random.Random(1), AheadBytes(Counting(), BULK)
    for _ in range(500):
        start = draw.randrange(len(DATA))
        stop = draw.randrange(start, len(DATA) + 1)
        assert source.read(start, stop) == DATA[start:stop]
