"""Chunk KV: the keys and values of one chunk, what it was computed behind, and its id.

Axes: `L` layers, `T` tokens, `H` key/value heads, `D` head size.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch

FORMAT_VERSION = 1
"""Version of the numbers and of their layout; part of every chunk id."""


@dataclass(frozen=True, slots=True)
class PositionGap:
    """Positions skipped in front of a chunk, as if other text stood there.

    The first `after` tokens are encoded `by` positions earlier, so they are farther from all that follows.

    Attributes:
        after: number of tokens in front of the skipped positions, at least 1.
        by: number of skipped positions, at least 1.
    """

    after: int
    by: int

    def __post_init__(self) -> None:
        assert self.after > 0 and self.by > 0, f"expected at least one token and position, got {self}"


@dataclass(frozen=True, slots=True)
class ChunkRecord:
    """What a chunk is, without its tensors.

    Attributes:
        chunk_id: see `chunk_id`.
        token_ids: the chunk's own tokens.
        prefix_ids: tokens that the chunk was computed behind; may be empty.
        position_gap: positions skipped among prefix and chunk, counted from the first of `prefix_ids`; or
            None.
        offset: position of the chunk's first token when it was computed, always `len(prefix_ids)`. The tokens
            in front of a position gap are moved to the left instead, to positions below zero.
    """

    chunk_id: str
    token_ids: tuple[int, ...]
    prefix_ids: tuple[int, ...]
    position_gap: PositionGap | None = None

    @property
    def offset(self) -> int:
        return len(self.prefix_ids)

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def is_echo(self) -> bool:
        """Whether it was computed right behind its own tokens: a second read, see `blend.chunks.versions`."""
        return bool(self.token_ids) and self.prefix_ids[-self.num_tokens :] == self.token_ids

    @property
    def base_ids(self) -> tuple[int, ...]:
        """Tokens in front of the first read: `prefix_ids`, without the chunk's own tokens for an echo."""
        return self.prefix_ids[: -self.num_tokens] if self.is_echo else self.prefix_ids

    @property
    def behind(self) -> tuple[tuple[int, ...], PositionGap | None, bool]:
        """What chunks that are computed in one call share: `base_ids`, `position_gap`, `is_echo`."""
        return self.base_ids, self.position_gap, self.is_echo


@dataclass(frozen=True, slots=True)
class ChunkKV:
    """Keys and values of one chunk, all layers and all heads. Never modified after construction.

    Attributes:
        record: what the chunk is.
        keys: [L, T, H, D], rotated for positions `record.offset .. record.offset + T - 1`.
        values: [L, T, H, D], same dtype and device as `keys`.
        is_lossless: whether these are the computed numbers; False after a codec that loses some precision.
    """

    record: ChunkRecord
    keys: torch.Tensor
    values: torch.Tensor
    is_lossless: bool = True

    def __post_init__(self) -> None:
        assert self.keys.ndim == 4 and self.keys.shape == self.values.shape, (
            f"expected keys and values of one shape [L, T, H, D], got {tuple(self.keys.shape)} "
            f"and {tuple(self.values.shape)}"
        )
        assert self.keys.shape[1] == self.record.num_tokens

    @property
    def num_layers(self) -> int:
        return self.keys.shape[0]

    @property
    def num_bytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes

    def layer(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values [T, H, D] of one layer."""
        return self.keys[index], self.values[index]

    def chunk(self) -> "ChunkKV":
        """The chunk itself: it is read like one that is stored."""
        return self


def chunk_id(
    model: str, prefix_ids: Sequence[int], token_ids: Sequence[int], position_gap: PositionGap | None = None
) -> str:
    """Digest of everything that a chunk's numbers depend on.

    Args:
        model: fingerprint of the model: weights, revision, rotary configuration and dtype.
        prefix_ids: tokens that the chunk is computed behind.
        token_ids: the chunk's tokens.
        position_gap: positions skipped among both, or None.

    Returns:
        32 hexadecimal digits (the first 128 bits of a SHA-256).

    >>> chunk_id("m", [1, 2], [3]) == chunk_id("m", (1, 2), (3,))
    True
    >>> chunk_id("m", [1, 2], [3]) == chunk_id("m", [1], [2, 3])
    False
    """
    digest = hashlib.sha256()
    name = model.encode()
    digest.update(struct.pack("<3Q", FORMAT_VERSION, len(name), len(prefix_ids)))
    digest.update(name)
    digest.update(pack_ids(prefix_ids))
    digest.update(pack_ids(token_ids))
    if position_gap is not None:
        digest.update(
            struct.pack("<2Q?", position_gap.after, position_gap.by, True)
        )  # 17 bytes: ids come in fours
    return digest.hexdigest()[:32]


def pack_ids(ids: Sequence[int]) -> bytes:
    """Token ids as bytes for a digest: four each, little-endian."""
    return struct.pack(f"<{len(ids)}I", *ids)


def make_record(
    model: str, prefix_ids: Sequence[int], token_ids: Sequence[int], position_gap: PositionGap | None = None
) -> ChunkRecord:
    """Record of a chunk with its id computed."""
    key = chunk_id(model, prefix_ids, token_ids, position_gap)
    return ChunkRecord(key, tuple(token_ids), tuple(prefix_ids), position_gap)


class Counted(Protocol):
    """Something with a number of tokens."""

    @property
    def num_tokens(self) -> int: ...


Chunk = TypeVar("Chunk", bound=Counted)


MAX_BATCH_CHUNKS = 64
"""Cap on a batch: each of its chunks needs memory for its own copy of the last rows of the prefix."""


def batches(chunks: Iterable[Chunk], max_tokens: int) -> Iterator[list[Chunk]]:
    """Consecutive chunks, at most `MAX_BATCH_CHUNKS` with at most `max_tokens` tokens; a larger chunk goes
    alone.

    >>> [len(batch) for batch in batches([make_record("m", (), [0] * n) for n in (3, 4, 9, 1)], 8)]
    [2, 1, 1]
    """
    batch: list[Chunk] = []
    tokens = 0
    for chunk in chunks:
        if batch and (tokens + chunk.num_tokens > max_tokens or len(batch) == MAX_BATCH_CHUNKS):
            yield batch
            batch, tokens = [], 0
        batch.append(chunk)
        tokens += chunk.num_tokens
    if batch:
        yield batch


def computable_batches(records: Iterable[ChunkRecord], max_tokens: int) -> Iterator[list[ChunkRecord]]:
    """Batches that an engine can compute: no duplicates, one prefix per batch, at most `max_tokens` tokens to
    run; a larger chunk goes alone.

    >>> both = [make_record("m", (1,), (n, n)) for n in (7, 8)] + [make_record("m", (2,), (9,))]
    >>> [len(batch) for batch in computable_batches(both + both, 100)]
    [2, 1]
    """
    groups: dict[tuple[tuple[int, ...], PositionGap | None, bool], dict[str, ChunkRecord]] = {}
    for record in records:
        groups.setdefault(record.behind, {})[record.chunk_id] = record
    for (_, _, are_echoes), group in groups.items():
        # The tokens of an echo run twice.
        yield from batches(group.values(), max_tokens // 2 if are_echoes else max_tokens)
