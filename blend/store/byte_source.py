"""Where the bytes of a chunk's file come from: memory, a mapped file, or a file read where it is asked to."""

import mmap
import os
from typing import Protocol

import torch


class ByteSource(Protocol):
    """The bytes of one chunk's file, wherever they lie. What is not asked for is not read.

    Called from any thread. What it gives is valid as long as it is referenced, and must not be written to.

    Attributes:
        num_bytes: of the file.
    """

    @property
    def num_bytes(self) -> int: ...

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Bytes from `start` to before `stop`: uint8 [stop - start], fewer where the file ends before.

        Raises:
            BadFileError: they are not there, though the file should have them.
        """


class HeldBytes:
    """Bytes in memory, or in a mapped file; implements `ByteSource`. What it gives are views of them.

    Args:
        data: writable, as torch wants it, and never written to; it stays alive as long as a view does.
    """

    def __init__(self, data: bytearray | mmap.mmap) -> None:
        self._bytes = torch.frombuffer(data, dtype=torch.uint8) if len(data) else torch.empty(0).byte()

    @property
    def num_bytes(self) -> int:
        return self._bytes.numel()

    def read(self, start: int, stop: int) -> torch.Tensor:
        """A view of bytes from `start` to before `stop`."""
        return self._bytes[start:stop]


class FileBytes:
    """An open file, read where it is asked to; implements `ByteSource`.

    For headers and ids: mapping a file costs three times as much, and 10,000 are read at start.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.num_bytes = os.fstat(descriptor).st_size

    def read(self, start: int, stop: int) -> torch.Tensor:
        """A copy of bytes from `start` to before `stop`."""
        data = bytearray(stop - start)
        num = os.preadv(self._descriptor, [data], start) if data else 0
        return HeldBytes(data).read(0, num)
