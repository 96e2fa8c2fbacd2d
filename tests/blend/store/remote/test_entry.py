"""Bytes of a chunk on a server are those that were asked for, in few fetches, and none is fetched twice."""

import json
import random
from collections.abc import Sequence
from dataclasses import asdict

import pytest

from blend.store.file_format.chunk_header import BadFileError
from blend.store.remote import entry as remote_entry
from blend.store.remote.entry import ENTRY_VERSION, Layout, RemoteBytes, Span

DATA = bytes(random.Random(0).randbytes(1000))
LAYOUT = Layout("mark", len(DATA), 100, 900, 30)


class Server:
    """Has the pieces of one file, and remembers what it was asked for."""

    def __init__(self, layout: Layout = LAYOUT) -> None:
        self.layout = layout
        self.sizes: list[int] = []
        self.is_whole = True
        line = json.dumps({"version": ENTRY_VERSION, **asdict(layout)}).encode() + b"\n"
        self.head = line + DATA[: layout.start] + DATA[layout.stop :]

    def fetch(self, layout: Layout, spans: Sequence[Span], into: memoryview) -> bool:
        assert layout == self.layout
        starts = (layout.piece(span.piece)[0] for span in spans)
        parts = [DATA[at + span.start : at + span.stop] for at, span in zip(starts, spans, strict=True)]
        self.sizes.append(len(into))
        if self.is_whole:
            into[:] = b"".join(parts)
        return self.is_whole


@pytest.fixture(autouse=True)
def ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_entry, "AHEAD_BYTES", 200)


def test_layers_in_a_row_are_few_fetches() -> None:
    server = Server()
    source = RemoteBytes(server.head, server.fetch)
    for start in range(100, 900, 50):
        assert source.read(start, start + 50) == DATA[start : start + 50]
    assert server.sizes == [200] * 4


def test_no_byte_is_fetched_twice_where_layers_do_not_divide_what_comes_along() -> None:
    server = Server()
    source = RemoteBytes(server.head, server.fetch)
    for start, stop in [(100, 170), (170, 240), (240, 310), (310, 750), (740, 900), (100, 300)]:
        assert source.read(start, stop) == DATA[start:stop]
    assert server.sizes == [200, 200, 250, 150] and source.read(0, 1000) == DATA


def test_a_layer_that_is_read_before_its_turn_comes_with_those_before_it() -> None:
    server = Server()
    source = RemoteBytes(server.head, server.fetch)
    assert source.read(300, 400) == DATA[300:400] and source.read(100, 200) == DATA[100:200]
    assert server.sizes == [300]


def test_what_lies_far_ahead_comes_alone() -> None:
    server, got = Server(), list[bytes]()
    source = RemoteBytes(server.head, server.fetch)
    source.when_whole(lambda data: got.append(bytes(data)))
    assert source.read(700, 1000) == DATA[700:] and not got
    assert source.read(100, 200) == DATA[100:200]
    assert server.sizes == [200, 200] and source.read(0, 1000) == DATA and got == [DATA]


def test_what_lies_beside_the_layers_is_not_fetched() -> None:
    server = Server()
    source = RemoteBytes(server.head, server.fetch)
    assert source.read(0, 40) == DATA[:40] and source.read(950, 2000) == DATA[950:]
    assert not server.sizes


def test_any_reads_give_the_bytes_that_they_ask_for() -> None:
    for layout in (LAYOUT, Layout("mark", 1000, 8, 1000, 7), Layout("mark", 1000, 300, 300, 7)):
        draw, server = random.Random(1), Server(layout)
        source = RemoteBytes(server.head, server.fetch)
        for _ in range(500):
            start = draw.randrange(len(DATA))
            stop = draw.randrange(start, len(DATA) + 1)
            assert source.read(start, stop) == DATA[start:stop]
        assert len(server.sizes) < 12


def test_the_whole_file_is_given_once_when_its_last_byte_has_come() -> None:
    server, got = Server(), list[bytes]()
    source = RemoteBytes(server.head, server.fetch)
    source.when_whole(lambda data: got.append(bytes(data)))
    source.read(100, 800)
    assert not got
    source.read(800, 900)
    source.read(100, 900)
    assert got == [DATA]


@pytest.mark.parametrize("layout", [LAYOUT, Layout("mark", 1000, 300, 300, 7)])
def test_a_file_that_is_there_already_is_given_at_once(layout: Layout) -> None:
    server, got = Server(layout), list[bytes]()
    source = RemoteBytes(server.head, server.fetch)
    source.read(0, 1000)
    source.when_whole(lambda data: got.append(bytes(data)))
    assert got == [DATA]


def test_a_missing_piece_is_said_and_the_file_not_given() -> None:
    server, got = Server(), list[bytes]()
    source = RemoteBytes(server.head, server.fetch)
    source.when_whole(lambda data: got.append(bytes(data)))
    server.is_whole = False
    with pytest.raises(BadFileError, match="missing or short"):
        source.read(100, 900)
    assert not got and source.read(0, 100) == DATA[:100]
    server.is_whole = True
    assert source.read(100, 900) == DATA[100:900] and got == [DATA]
