"""Where a tier in front of another keeps its copies: on which device, and which heads of them."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import torch

from blend.chunks.chunk import ChunkKV

CPU = torch.device("cpu")
ALL_HEADS = slice(None)


@dataclass(frozen=True, slots=True)
class Place:
    """A device, and the heads that are wanted there.

    Attributes:
        device: where keys and values are copied to.
        heads: of the model's key/value heads, those of one tensor-parallel rank.
        stream: of a CUDA device, what the copies are for: memory that is given back is then not written to
            before the kernels that read it are done, whatever thread copies. None elsewhere.
    """

    device: torch.device = CPU
    heads: slice = field(default_factory=lambda: ALL_HEADS)
    stream: "torch.cuda.Stream | None" = None

    def own(self, chunk: ChunkKV) -> ChunkKV:
        """A chunk with these heads alone, where it is: views [L, T, h, D]."""
        return replace(chunk, keys=chunk.keys[:, :, self.heads], values=chunk.values[:, :, self.heads])

    def copy(self, chunk: ChunkKV) -> ChunkKV:
        """A copy on the device that shares nothing with the chunk.

        Raises:
            torch.OutOfMemoryError: the device has no room.
        """
        with self.copying():
            keys, values = (
                rows.to(self.device, copy=True).contiguous() for rows in (chunk.keys, chunk.values)
            )
        return replace(chunk, keys=keys, values=values)

    def space(self, num_layers: int, layer: torch.Tensor) -> torch.Tensor:
        """Room on the device [L, T, h, D] for layers such as one of [T, h, D].

        Raises:
            torch.OutOfMemoryError: as `copy`.
        """
        with self.copying():
            return torch.empty((num_layers, *layer.shape), dtype=layer.dtype, device=self.device)

    def copying(self) -> AbstractContextManager[object]:
        """What copies to the device are made in."""
        return nullcontext() if self.stream is None else torch.cuda.stream(self.stream)


MEMORY = Place()
"""This process's own memory, all heads."""
