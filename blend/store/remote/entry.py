"""How a chunk lies on a server: a head, and the pieces that it names. Together they are the disk tier's file.

::

    head      one line of JSON, then the file's bytes before the bulk and those after it: its header, and
              what is small behind the keys and values (ids)
    pieces    the bulk (keys and values), cut so that no value is over the server's limit

A head is written last and removed first, and pieces bear the head's own mark: who finds a head finds all
that it names, and never a piece of another writer.
"""

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from threading import Lock
from typing import NamedTuple

import torch

from blend.store.file_format.byte_source import HeldBytes
from blend.store.file_format.chunk_file import read_parts
from blend.store.file_format.chunk_header import LENGTH_BYTES, BadFileError

ENTRY_VERSION = 1
INLINE_BYTES = 64 << 10
"""Parts up to this size stand in the head, where they follow the last larger one."""
MARK_BYTES = 8
AHEAD_BYTES = 4 << 20
"""Fetched at once of a chunk that is asked for less, and how far ahead is near."""


class Span(NamedTuple):
    """Bytes `start` to before `stop` of a piece."""

    piece: int
    start: int
    stop: int


class UnreachableError(BadFileError):
    """Bytes could not be had in time; whether they are good is not known."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the bytes of a chunk's file are.

    Attributes:
        mark: of the one writer whose pieces these are.
        num_bytes: of the file.
        start, stop: of the bulk, in the file.
        piece_bytes: of every piece but the last.
    """

    mark: str
    num_bytes: int
    start: int
    stop: int
    piece_bytes: int

    @property
    def num_pieces(self) -> int:
        return -(-(self.stop - self.start) // self.piece_bytes)

    def piece(self, index: int) -> tuple[int, int]:
        """Where a piece begins and ends in the file."""
        start = self.start + index * self.piece_bytes
        return start, min(start + self.piece_bytes, self.stop)

    def spans(self, start: int, stop: int) -> list[Span]:
        """What of which piece makes up bytes `start` to before `stop` of the file, all within the bulk.

        >>> Layout("m", 100, 10, 90, 30).spans(35, 75)
        [Span(piece=0, start=25, stop=30), Span(piece=1, start=0, stop=30), Span(piece=2, start=0, stop=5)]
        """
        found = []
        while start < stop:
            piece, offset = divmod(start - self.start, self.piece_bytes)
            taken = min(stop - start, self.piece_bytes - offset)
            found.append(Span(piece, offset, offset + taken))
            start += taken
        return found


class Entry(NamedTuple):
    """A chunk as a server keeps it."""

    layout: Layout
    head: bytes
    pieces: Sequence[memoryview]


def split(data: bytearray, chunk_id: str, piece_bytes: int, inline_bytes: int = INLINE_BYTES) -> Entry:
    """Cut a chunk's file into a head and pieces, which are views of it.

    Args:
        data: the file; not written to while the pieces are in use.

    Raises:
        BadFileError: it is no chunk's file.
    """
    parts = read_parts(HeldBytes(data), chunk_id)
    large = [part for part in parts.values() if part.stop - part.start > inline_bytes]
    start = min((part.start for part in large), default=len(data))
    stop = max((part.stop for part in large), default=start)
    layout = Layout(secrets.token_hex(MARK_BYTES), len(data), start, stop, piece_bytes)
    line = json.dumps({"version": ENTRY_VERSION, **asdict(layout)}).encode() + b"\n"
    head = line + data[:start] + data[layout.stop :]
    spans = (layout.piece(index) for index in range(layout.num_pieces))
    return Entry(layout, head, [memoryview(data)[begin:end] for begin, end in spans])


def parse_head(head: bytes) -> tuple[Layout, bytes]:
    """Inverse of what `split` made: the layout, and the file's bytes before and after the bulk.

    Raises:
        BadFileError: it is no head, or not a whole one.
    """
    line, newline, edges = head.partition(b"\n")
    try:
        fields = json.loads(line)
        version = fields.pop("version")
        layout = Layout(**fields)
        numbers = (layout.start, layout.stop, layout.num_bytes, layout.piece_bytes)
        sane = LENGTH_BYTES <= layout.start <= layout.stop <= layout.num_bytes and layout.piece_bytes > 0
        sane = sane and all(type(number) is int for number in numbers) and layout.mark.isalnum()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BadFileError("its head cannot be read") from error
    if version != ENTRY_VERSION:
        raise BadFileError(f"head of version {version}, expected {ENTRY_VERSION}")
    if not newline or not sane or len(edges) != layout.num_bytes - (layout.stop - layout.start):
        raise BadFileError("its head is not what was written")
    return layout, edges


class RemoteBytes:
    """The bytes of a chunk on a server; implements `blend.store.file_format.byte_source.ByteSource`.

    A question costs much: what is read in order, or nearly, comes in few fetches, together with what follows
    it, and is kept: none of it is fetched twice. What lies far ahead comes alone.

    Args:
        head: as it came from the server.
        fetch: writes spans of the pieces of a layout one after another into a buffer of their size; False
            when one of them is missing or short.

    Attributes:
        num_bytes: of the file.

    Raises:
        BadFileError: the head is not what was written.
    """

    def __init__(self, head: bytes, fetch: "Fetch") -> None:
        self._layout, edges = parse_head(head)
        self._edges = memoryview(bytearray(edges))
        self._fetch = fetch
        self._file: memoryview | None = None
        self._there = self._layout.start  # what lies before is there
        self._then: Callable[[memoryview], None] | None = None
        self._lock = Lock()
        self.num_bytes = self._layout.num_bytes

    def read(self, start: int, stop: int) -> memoryview:
        """Bytes from `start` to before `stop`.

        Raises:
            BadFileError: a piece is missing or short.
            UnreachableError: the server did not answer in time.
        """
        bulk, stop = self._layout, min(stop, self.num_bytes)
        if stop <= bulk.start:
            return self._edges[start:stop]
        if start >= bulk.stop:
            gap = bulk.stop - bulk.start  # which the edges leave out
            return self._edges[start - gap : stop - gap]
        return self._filled(start, min(stop, bulk.stop))[start:stop]

    def when_whole(self, then: Callable[[memoryview], None]) -> None:
        """Have the whole file given to `then`, once, when all its bytes are there; none was verified."""
        with self._lock:
            self._then = then
            if self._there == self._layout.stop:
                self._tell(self._own_file())

    def _filled(self, start: int, stop: int) -> memoryview:
        """The file, in which the bytes from `start` to before `stop`, none of them behind the bulk, are."""
        if self._file is not None and stop <= self._there:
            return self._file  # nobody waits for what is fetched ahead
        with self._lock:
            file, there = self._own_file(), self._there
            if start > there + AHEAD_BYTES:
                self._bring(file, start, stop)
            elif stop > there:
                ahead = min(max(stop, there + AHEAD_BYTES), self._layout.stop)
                self._bring(file, there, ahead)
                self._there = ahead
                if ahead == self._layout.stop:
                    self._tell(file)
            return file

    def _bring(self, file: memoryview, start: int, stop: int) -> None:
        if not self._fetch(self._layout, self._layout.spans(start, stop), file[start:stop]):
            raise BadFileError("a piece of it is missing or short")

    def _own_file(self) -> memoryview:
        """Room for the file, its edges filled in; none is taken before a byte of the bulk is asked for."""
        if self._file is None:
            file: memoryview = torch.empty(self.num_bytes, dtype=torch.uint8).numpy().data
            start, stop = self._layout.start, self._layout.stop
            file[:start], file[stop:] = self._edges[:start], self._edges[start:]
            self._file = file
        return self._file

    def _tell(self, file: memoryview) -> None:
        then, self._then = self._then, None
        if then is not None:
            then(file)


Fetch = Callable[[Layout, Sequence[Span], memoryview], bool]
