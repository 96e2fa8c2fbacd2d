"""A chunk that is in memory, behind the contract of a reader."""

import torch

from blend.chunks.chunk import ChunkKV, ChunkRecord


class HeldChunk:
    """Implements `blend.store.base.ChunkReader`; nothing is left to verify.

    Args:
        chunk: whole, and verified.
    """

    def __init__(self, chunk: ChunkKV) -> None:
        self._chunk = chunk

    @property
    def record(self) -> ChunkRecord:
        return self._chunk.record

    @property
    def num_layers(self) -> int:
        return self._chunk.keys.shape[0]

    @property
    def is_lossless(self) -> bool:
        return self._chunk.is_lossless

    def layer(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values [T, H, D] of one layer."""
        return self._chunk.keys[index], self._chunk.values[index]

    def chunk(self) -> ChunkKV:
        """All of it."""
        return self._chunk
