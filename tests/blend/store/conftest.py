"""Small chunks with real tensors."""

from collections.abc import Callable

import pytest
import torch

from blend.chunks.chunk import ChunkKV, PositionGap, make_record

MakeChunk = Callable[..., ChunkKV]


def make(
    seed: int,
    tokens: int = 5,
    dtype: torch.dtype = torch.float32,
    prefix: int = 3,
    position_gap: PositionGap | None = None,
) -> ChunkKV:
    """A chunk of random numbers: 3 layers, 2 heads of size 4."""
    generator = torch.Generator().manual_seed(seed)
    record = make_record("model", range(prefix), [seed * 100 + i for i in range(tokens)], position_gap)
    keys, values = (torch.randn(3, tokens, 2, 4, generator=generator).to(dtype) for _ in range(2))
    return ChunkKV(record, keys, values)


@pytest.fixture
def make_chunk() -> MakeChunk:
    return make
