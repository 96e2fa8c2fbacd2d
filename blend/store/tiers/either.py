"""A chunk of a near store that is read from a far one where the near copy is damaged."""

from collections.abc import Callable
from threading import Lock
from typing import TypeVar

import torch

from blend.chunks.chunk import ChunkKV, ChunkRecord
from blend.errors import CorruptChunk
from blend.store.base import ChunkReader

T = TypeVar("T")


class EitherChunk:
    """Implements `blend.store.base.ChunkReader`.

    Args:
        near: what is read as long as it is sound.
        open_far: the same chunk of the other store, or None where it is absent.
    """

    def __init__(self, near: ChunkReader, open_far: Callable[[], ChunkReader | None]) -> None:
        self._near = near
        self._open_far = open_far
        self._far: ChunkReader | None = None
        self._lock = Lock()

    @property
    def record(self) -> ChunkRecord:
        return self._near.record

    @property
    def num_layers(self) -> int:
        return self._near.num_layers

    @property
    def is_lossless(self) -> bool:
        return self._near.is_lossless

    def layer(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values [T, H, D] of one layer.

        Raises:
            CorruptChunk: this layer failed its check in both. The entries have been dropped.
        """
        return self._read(lambda reader: reader.layer(index))

    def chunk(self) -> ChunkKV:
        """All of it.

        Raises:
            CorruptChunk: as `layer`.
        """
        return self._read(lambda reader: reader.chunk())

    def _read(self, read: Callable[[ChunkReader], T]) -> T:
        if self._far is None:
            try:
                return read(self._near)
            except CorruptChunk as damage:
                self._turn_to_far(damage)
        assert self._far is not None
        return read(self._far)

    def _turn_to_far(self, damage: CorruptChunk) -> None:
        with self._lock:
            if self._far is None:
                far = self._open_far()
                # Layers that were read are good only beside others of the same numbers.
                if far is None or far.is_lossless != self.is_lossless:
                    raise damage
                self._far = far
