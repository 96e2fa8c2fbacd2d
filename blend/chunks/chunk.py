"""Chunk KV: what is stored of one chunk, and the key it is stored under.

Axes: `L` layers, `T` tokens, `H` key/value heads, `D` head size.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch

FORMAT_VERSION = 1
"""Version of the numbers and of their layout; part of every key."""


@dataclass(frozen=True, slots=True)
class Leap:
    """Positions left out, as if other text stood there: what is in front is farther away by so many.

    Attributes:
        after: tokens in front of them, one at least.
        by: so many positions, one at least.
    """

    after: int
    by: int

    def __post_init__(self) -> None:
        assert self.after > 0 and self.by > 0, f"expected tokens and positions, got {self}"


@dataclass(frozen=True, slots=True)
class ChunkRecord:
    """What a chunk is, without its tensors.

    Attributes:
        chunk_id: key of the chunk, see `chunk_id`.
        token_ids: the chunk's own tokens.
        prefix_ids: tokens that the chunk was computed behind; may be empty.
        leap: positions left out among both, counted from the first of `prefix_ids`; None: none.
        offset: position of the chunk's first token when it was computed, always `len(prefix_ids)`. What
            stands in front of a leap was moved to the left for it, to positions below zero.
    """

    chunk_id: str
    token_ids: tuple[int, ...]
    prefix_ids: tuple[int, ...]
    leap: Leap | None = None

    @property
    def offset(self) -> int:
        return len(self.prefix_ids)

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def is_echo(self) -> bool:
        """Whether it was computed right behind its own tokens: a second reading, see `blend.versions`."""
        return bool(self.token_ids) and self.prefix_ids[-self.num_tokens :] == self.token_ids

    @property
    def base_ids(self) -> tuple[int, ...]:
        """Tokens that the first reading stands behind: those that it was computed behind when it is none."""
        return self.prefix_ids[: -self.num_tokens] if self.is_echo else self.prefix_ids

    @property
    def behind(self) -> tuple[tuple[int, ...], Leap | None, bool]:
        """What it has in common with chunks that are computed in one call: `base_ids`, `leap`, `is_echo`."""
        return self.base_ids, self.leap, self.is_echo


@dataclass(frozen=True, slots=True)
class ChunkKV:
    """Keys and values of one chunk, all layers and all heads. Never modified once made.

    Attributes:
        record: what the chunk is.
        keys: [L, T, H, D], rotated for positions `record.offset .. record.offset + T - 1`.
        values: [L, T, H, D], same dtype and device as `keys`.
        is_lossless: whether these are the numbers that were computed; False behind a codec that drops some.
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
    model: str, prefix_ids: Sequence[int], token_ids: Sequence[int], leap: Leap | None = None
) -> str:
    """Digest of everything that a chunk's numbers depend on.

    Args:
        model: fingerprint of the model: weights, revision, rotary configuration and dtype.
        prefix_ids: tokens that the chunk is computed behind.
        token_ids: the chunk's tokens.
        leap: positions left out among both.

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
    if leap is not None:
        digest.update(struct.pack("<2Q?", leap.after, leap.by, True))  # 17 bytes: no ids are so many
    return digest.hexdigest()[:32]


def pack_ids(ids: Sequence[int]) -> bytes:
    """Token ids as bytes that a digest takes: four each, little-endian."""
    return struct.pack(f"<{len(ids)}I", *ids)


def make_record(
    model: str, prefix_ids: Sequence[int], token_ids: Sequence[int], leap: Leap | None = None
) -> ChunkRecord:
    """Record of a chunk with its key computed."""
    key = chunk_id(model, prefix_ids, token_ids, leap)
    return ChunkRecord(key, tuple(token_ids), tuple(prefix_ids), leap)


class Counted(Protocol):
    """Something of a number of tokens."""

    @property
    def num_tokens(self) -> int: ...


Chunk = TypeVar("Chunk", bound=Counted)


MAX_BATCH_CHUNKS = 64
"""Each chunk of a batch is computed behind rows of its own of what stands before it: these take memory."""


def batches(chunks: Iterable[Chunk], max_tokens: int) -> Iterator[list[Chunk]]:
    """Consecutive chunks, not too many, with at most `max_tokens` tokens; a larger one goes alone.

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
    """Records as an engine takes them: each once, those of a batch behind the same, with at most `max_tokens`
    tokens to run; a larger one goes alone.

    >>> both = [make_record("m", (1,), (n, n)) for n in (7, 8)] + [make_record("m", (2,), (9,))]
    >>> [len(batch) for batch in computable_batches(both + both, 100)]
    [2, 1]
    """
    groups: dict[tuple[tuple[int, ...], Leap | None, bool], dict[str, ChunkRecord]] = {}
    for record in records:
        groups.setdefault(record.behind, {})[record.chunk_id] = record
    for (_, _, are_echoes), group in groups.items():
        # An echo is read twice.
        yield from batches(group.values(), max_tokens // 2 if are_echoes else max_tokens)
