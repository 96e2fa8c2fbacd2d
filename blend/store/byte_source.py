"""Where the bytes of a chunk's file come from: memory, a mapped file, or a file read where it is asked to."""

import mmap
import os
from threading import Lock
from typing import Protocol

AHEAD_BYTES = 4 << 20
"""Read at once of a source that is asked for less, one read after another."""


class ByteSource(Protocol):
    """The bytes of one chunk's file, wherever they lie. What is not asked for is not read.

    Called from any thread. What it gives is valid as long as it is referenced, and must not be written to.

    Attributes:
        num_bytes: of the file.
    """

    @property
    def num_bytes(self) -> int: ...

    def read(self, start: int, stop: int) -> memoryview:
        """Bytes from `start` to before `stop`, fewer where the file ends; writable, as torch wants them.

        Raises:
            BadFileError: they are not there, though the file should have them.
        """


class HeldBytes:
    """Bytes in memory, or in a mapped file; implements `ByteSource`. What it gives are views of them.

    Args:
        data: writable and never written to; it stays alive as long as a view does.
    """

    def __init__(self, data: bytearray | mmap.mmap) -> None:
        self._bytes = memoryview(data)
        self.num_bytes = len(data)

    def read(self, start: int, stop: int) -> memoryview:
        """A view of bytes from `start` to before `stop`."""
        return self._bytes[start:stop]


class AheadBytes:
    """Bytes of a source behind which a question costs much; implements `ByteSource`.

    Layers that are read one after another become few reads: what follows comes along, and is kept until it is
    asked for.

    Args:
        source: what it gives are copies, which stay as they are.
        bulk: where the layers are; what lies elsewhere is read as it is asked for.
    """

    def __init__(self, source: ByteSource, bulk: range) -> None:
        self._source = source
        self._bulk = bulk
        self._start = 0
        self._kept = memoryview(b"")
        self._lock = Lock()
        self.num_bytes = source.num_bytes

    def read(self, start: int, stop: int) -> memoryview:
        """Bytes from `start` to before `stop`."""
        if start not in self._bulk or stop > self._bulk.stop:
            return self._source.read(start, stop)
        with self._lock:
            if not self._start <= start <= self._stop:
                self._start, self._kept = start, memoryview(b"")
            if stop > self._stop:
                self._read_on(start, stop)
            return self._kept[start - self._start : stop - self._start]

    @property
    def _stop(self) -> int:
        return self._start + len(self._kept)

    def _read_on(self, start: int, stop: int) -> None:
        """Drop what lies before `start`, and read what follows what is kept: whole layers of this size."""
        rest, size = self._kept[start - self._start :], stop - start
        ahead = min(start + max(1, AHEAD_BYTES // size) * size, self._bulk.stop)
        fresh = self._source.read(self._stop, ahead)
        self._start, self._kept = start, memoryview(bytearray(rest) + fresh) if rest else fresh


class FileBytes:
    """An open file, read where it is asked to; implements `ByteSource`.

    For headers and ids: mapping a file costs three times as much, and 10,000 are read at start.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.num_bytes = os.fstat(descriptor).st_size

    def read(self, start: int, stop: int) -> memoryview:
        """A copy of bytes from `start` to before `stop`."""
        data = bytearray(stop - start)
        return memoryview(data)[: os.preadv(self._descriptor, [data], start) if data else 0]
