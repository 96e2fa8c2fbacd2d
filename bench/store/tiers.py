"""Tiers compared with a plain read of the same bytes; medians of alternating repetitions."""

import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Protocol

import torch

from bench.store.remote import RemoteTier
from blend.chunks.chunk import ChunkKV
from blend.store.base import ChunkStore
from blend.store.codecs.base import Codec
from blend.store.file_format.durable import drop_page_cache
from blend.store.tiers.cached import CachedStore
from blend.store.tiers.disk import DiskStore

PIECE_BYTES = 1 << 20
"""Buffer of a plain read, which reuses it as dd does."""


class Tier(Protocol):
    """A place that is measured.

    Attributes:
        name: what the table says.
        codec: name of what packs the chunks.
        store: what chunks are read from, and written to.
        raw_kept: as `raw_read`, but what is read stays, all of it, in memory that was not used before; None
            where there is no other way to read.
    """

    name: str
    codec: str

    @property
    def raw_kept(self) -> Callable[[ChunkKV], int] | None: ...

    @property
    def store(self) -> ChunkStore: ...

    def before_write(self, chunk: ChunkKV) -> None:
        """Called before each write, and not timed."""

    def before_read(self, chunk: ChunkKV) -> None:
        """Bring about what the tier's name says; called before each read, and not timed."""

    def stored_bytes(self, chunk: ChunkKV) -> int:
        """What a chunk that was put takes where it is durable."""

    def read(self, chunk: ChunkKV) -> int:
        """Read a chunk through the store; returns the bytes that its file, or its tensors, take."""

    def raw_read(self, chunk: ChunkKV) -> int:
        """Read the same bytes without the store; returns how many."""

    def close(self) -> None:
        """Release what the tier holds."""


@dataclass(frozen=True, slots=True)
class TierFigures:
    """One tier with chunks of one codec, in gigabytes of stored bytes a second.

    Attributes:
        kv_gb_s: the same reads, in bytes of the numbers that they give.
        raw_kept_gb_s: plain reads whose bytes all stay in memory, as those of a chunk do; None where the
            others' do.
    """

    name: str
    codec: str
    read_gb_s: float
    write_gb_s: float
    raw_read_gb_s: float
    kv_gb_s: float
    raw_kept_gb_s: float | None = None


class DiskTier:
    """Files, with or without their pages in the system's cache; implements `Tier`."""

    def __init__(self, folder: Path, codec: Codec, *, warm: bool) -> None:
        self.name = "disk, warm" if warm else "disk, cold"
        self.codec = codec.name
        self.store = DiskStore(folder, codec=codec)
        self._warm = warm
        self._buffer = memoryview(bytearray(PIECE_BYTES))

    def before_write(self, chunk: ChunkKV) -> None:
        """Nothing: a file is written anew."""

    def before_read(self, chunk: ChunkKV) -> None:
        """Read the file once, or have the system forget its pages."""
        if not self._warm:
            drop_page_cache(self._path(chunk))
            return
        with open(self._path(chunk), "rb", buffering=0) as file:
            self._read(file)

    def stored_bytes(self, chunk: ChunkKV) -> int:
        """Size of the file."""
        return self._path(chunk).stat().st_size

    def read(self, chunk: ChunkKV) -> int:
        """Get it: mapped, every byte verified, decoded."""
        assert self.store.get(chunk.record) is not None, "it was put"
        return self.stored_bytes(chunk)

    def raw_read(self, chunk: ChunkKV) -> int:
        """As dd does."""
        with open(self._path(chunk), "rb", buffering=0) as file:
            return self._read(file)

    def raw_kept(self, chunk: ChunkKV) -> int:
        """All at once into a buffer of its own."""
        with open(self._path(chunk), "rb", buffering=0) as file:
            space = torch.empty(self.stored_bytes(chunk), dtype=torch.uint8)
            return file.readinto(space.numpy().data)

    def close(self) -> None:
        """Nothing: whoever made the folder removes it."""

    def _path(self, chunk: ChunkKV) -> Path:
        return self.store.path(chunk.record.chunk_id)

    def _read(self, file: io.FileIO) -> int:
        total = 0
        while size := file.readinto(self._buffer):
            total += size
        return total


class MemoryTier:
    """Decoded chunks in this process; implements `Tier`. A read ends in a copy, or nothing would be read."""

    name = "memory"
    raw_kept = None

    def __init__(self, folder: Path, codec: Codec, chunks: Sequence[ChunkKV]) -> None:
        self.codec = codec.name
        self._disk = DiskStore(folder, codec=codec)
        self.store = CachedStore(self._disk, 2 * sum(chunk.num_bytes for chunk in chunks))
        self._space = torch.empty(max(chunk.keys.numel() for chunk in chunks), dtype=chunks[0].keys.dtype)

    def before_write(self, chunk: ChunkKV) -> None:
        """Nothing: what is put is written through."""

    def before_read(self, chunk: ChunkKV) -> None:
        """Have it promoted."""
        self.store.get(chunk.record)

    def stored_bytes(self, chunk: ChunkKV) -> int:
        """Size of the file: what is put is written through."""
        return self._disk.path(chunk.record.chunk_id).stat().st_size

    def read(self, chunk: ChunkKV) -> int:
        """Get it, and copy it."""
        found = self.store.get(chunk.record)
        assert found is not None, "it was put"
        return self._copy(found)

    def raw_read(self, chunk: ChunkKV) -> int:
        """Copy the same numbers."""
        return self._copy(chunk)

    def close(self) -> None:
        """Nothing: whoever made the folder removes it."""

    def _copy(self, chunk: ChunkKV) -> int:
        for rows in (chunk.keys, chunk.values):
            self._space[: rows.numel()].view(rows.shape).copy_(rows)
        return chunk.num_bytes


def open_tiers(
    folder: Path, codec: Codec, chunks: Sequence[ChunkKV], names: Sequence[str], servers: Mapping[str, str]
) -> list[Tier]:
    """What is measured with one codec, each tier in a folder of its own, or on a server.

    Args:
        names: of `TIERS`.
        servers: URLs, by the tier's name.

    Raises:
        StoreError: a server cannot be written to.
    """
    tiers: list[Tier] = []
    if "memory" in names:
        tiers.append(MemoryTier(folder / codec.name / "memory", codec, chunks))
    if "disk" in names:
        tiers.append(DiskTier(folder / codec.name / "warm", codec, warm=True))
        tiers.append(DiskTier(folder / codec.name / "cold", codec, warm=False))
    return tiers + [RemoteTier(name, url, codec, chunks) for name, url in servers.items() if name in names]


def measure_tiers(tiers: Sequence[Tier], chunks: Sequence[ChunkKV], repetitions: int) -> list[TierFigures]:
    """Figures of each tier: in each repetition all are written, read, and read plainly, in turn."""
    passes = [_Passes(tier, chunks) for tier in tiers]
    for repetition in range(repetitions):
        for one in passes:
            one.run(plain_first=bool(repetition % 2))
    return [one.figures() for one in passes]


class _Passes:
    """Passes over all chunks in one tier: seconds of each, and bytes."""

    def __init__(self, tier: Tier, chunks: Sequence[ChunkKV]) -> None:
        self._tier = tier
        self._chunks = chunks
        self._seconds: dict[str, list[float]] = {}
        self._bytes: dict[str, int] = {}

    def run(self, *, plain_first: bool) -> None:
        """One of each kind."""
        self._pass("write", self._write, self._tier.before_write)
        reads: list[tuple[str, Callable[[ChunkKV], int]]]
        reads = [("read", self._tier.read), ("raw", self._tier.raw_read)]
        if self._tier.raw_kept is not None:
            reads.append(("kept", self._tier.raw_kept))
        for name, read in reversed(reads) if plain_first else reads:
            self._pass(name, read, self._tier.before_read)

    def figures(self) -> TierFigures:
        """Medians."""
        rate = {name: self._bytes[name] / median(found) / 1e9 for name, found in self._seconds.items()}
        kv_bytes = sum(chunk.num_bytes for chunk in self._chunks)
        return TierFigures(
            name=self._tier.name,
            codec=self._tier.codec,
            read_gb_s=rate["read"],
            write_gb_s=rate["write"],
            raw_read_gb_s=rate["raw"],
            kv_gb_s=rate["read"] * kv_bytes / self._bytes["read"],
            raw_kept_gb_s=rate.get("kept"),
        )

    def _write(self, chunk: ChunkKV) -> int:
        self._tier.store.put(chunk)
        return self._tier.stored_bytes(chunk)

    def _pass(self, name: str, do: Callable[[ChunkKV], int], prepare: Callable[[ChunkKV], None]) -> None:
        seconds, num_bytes = 0.0, 0
        for chunk in self._chunks:
            prepare(chunk)
            started = time.perf_counter()
            num_bytes += do(chunk)
            seconds += time.perf_counter() - started
        self._seconds.setdefault(name, []).append(seconds)
        self._bytes[name] = num_bytes
