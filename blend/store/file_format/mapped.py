"""A chunk in a mapped file, behind the contract of a reader."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from blend.chunks.chunk import ChunkKV, ChunkRecord
from blend.errors import CorruptChunk
from blend.store.file_format.chunk_file import ChunkFile
from blend.store.file_format.chunk_header import BadFileError


class MappedChunk:
    """Implements `blend.store.base.ChunkReader`: a layer is read from the disk when it is asked for.

    Args:
        file: its header and its ids are verified.
        damaged: drops the chunk, and returns what is to be raised.
    """

    def __init__(self, file: ChunkFile, damaged: Callable[[str, BadFileError], CorruptChunk]) -> None:
        self._file = file
        self._damaged = damaged

    @property
    def record(self) -> ChunkRecord:
        return self._file.record

    @property
    def num_layers(self) -> int:
        return self._file.num_layers

    @property
    def is_lossless(self) -> bool:
        return self._file.is_lossless

    def layer(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values [T, H, D] of one layer.

        Raises:
            CorruptChunk: this layer failed its check. The entry has been dropped.
        """
        with self._checked():
            return self._file.layer(index)

    def chunk(self) -> ChunkKV:
        """All of it.

        Raises:
            CorruptChunk: a check failed. The entry has been dropped.
        """
        with self._checked():
            return self._file.chunk()

    @contextmanager
    def _checked(self) -> Iterator[None]:
        try:
            yield
        except BadFileError as error:
            raise self._damaged(self.record.chunk_id, error) from error
