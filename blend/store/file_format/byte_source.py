"""Where the bytes of a chunk's file come from: memory, a mapped file, or a file read where it is asked to."""

import mmap
import os
from typing import Protocol


class ByteSource(Protocol):
    """The bytes of one chunk's file, wherever they lie. What is not asked for is not read.

    Called from any thread. What it gives is valid as long as it is referenced, and must not be written to.

    Attributes:
        num_bytes: of the file.
    """

    @property
    def num_bytes(self) -> int: ...

    def read(self, start: int, stop: int) -> memoryview:
        """Bytes from `start` to before `stop`, fewer where the file ends.

        Raises:
            BadFileError: they are not there, though the file should have them.
        """


class HeldBytes:
    """Bytes in memory, or in a mapped file; implements `ByteSource`. What it gives are views of them.

    Args:
        data: never written to; it stays alive as long as a view does.
    """

    def __init__(self, data: bytes | bytearray | memoryview | mmap.mmap) -> None:
        self._bytes = memoryview(data)
        self.num_bytes = len(data)

    def read(self, start: int, stop: int) -> memoryview:
        """A view of bytes from `start` to before `stop`."""
        return self._bytes[start:stop]


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


class IncompleteError(Exception):
    """A read goes beyond the bytes that are at hand.

    Attributes:
        num_bytes: of the file's beginning that the read needs.
    """

    def __init__(self, num_bytes: int) -> None:
        super().__init__(f"{num_bytes} bytes are needed")
        self.num_bytes = num_bytes


class LeadingBytes:
    """The first bytes of a file that lies elsewhere; implements `ByteSource`, for headers and ids.

    Args:
        num_bytes: of the whole file.
    """

    def __init__(self, data: bytes | memoryview, num_bytes: int) -> None:
        self._bytes = memoryview(data)
        self.num_bytes = num_bytes

    def read(self, start: int, stop: int) -> memoryview:
        """A view of bytes from `start` to before `stop`.

        Raises:
            IncompleteError: some of them are not at hand.
        """
        stop = min(stop, self.num_bytes)
        if stop > len(self._bytes):
            raise IncompleteError(stop)
        return self._bytes[start:stop]
