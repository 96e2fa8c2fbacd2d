"""One stored chunk, read layer by layer, whether its rows are tensors in memory or the bytes of a file."""

import time
from collections.abc import Callable
from threading import Lock
from typing import Protocol, TypeVar

import torch

from blend.chunks.chunk import ChunkKV, ChunkRecord
from blend.errors import CorruptChunk
from blend.store.file_format.chunk_header import BadFileError
from blend.store.tiers.promotion import Promotion, Rows
from blend.store.tiers.tier_meter import TierMeter

T = TypeVar("T")


class LayerSource(Protocol):
    """What a handle reads: a `ChunkKV`, a `ChunkFile`, or the handle of the tier behind."""

    @property
    def record(self) -> ChunkRecord: ...

    @property
    def num_layers(self) -> int: ...

    @property
    def is_lossless(self) -> bool: ...

    def layer(self, index: int) -> Rows: ...

    def chunk(self) -> ChunkKV: ...


class ChunkHandle:
    """One stored chunk. `layer` reads no other layer, except for what a remote's file brings at once.

    Made by `ChunkStore.open`. Called from any thread, in any order, any number of times: while layer i is
    blended, another thread may ask for layer i + 1. It stays readable when the chunk is evicted or deleted.
    Tensors are valid as long as they are referenced, and must not be written to.

    Args:
        source: holds the rows. One that reads bytes verifies them, and raises `BadFileError`.
        meter: counts what is read.
        on_damage: takes the chunk's id and the failed check, drops the stored entry, returns what is raised.
        promotion: keeps a copy of each layer, and gives the whole to a tier in front.
        open_other: opens the same chunk in another store, which replaces a damaged source; None if absent.

    Attributes:
        record: what the chunk is.
        num_layers: L.
        is_lossless: see `ChunkKV`.
    """

    def __init__(
        self,
        source: LayerSource,
        meter: TierMeter | None = None,
        on_damage: Callable[[str, BadFileError], CorruptChunk] | None = None,
        promotion: Promotion | None = None,
        open_other: "Callable[[], ChunkHandle | None] | None" = None,
    ) -> None:
        self.record = source.record
        self.num_layers = source.num_layers
        self.is_lossless = source.is_lossless
        self._source = source
        self._meter = meter
        self._on_damage = on_damage
        self._promotion = promotion
        self._open_other = open_other
        self._other: ChunkHandle | None = None
        self._lock = Lock()

    def layer(self, index: int) -> Rows:
        """Keys and values [T, H, D] of one layer, verified.

        Raises:
            CorruptChunk: this layer failed its check. The entry has been dropped; layers that were read
                before are good.
        """
        copies = self._promotion
        copied = None if copies is None else copies.layer(index)
        if copied is not None:
            return copied
        rows = self._read(lambda source: source.layer(index), lambda rows: rows[0].nbytes + rows[1].nbytes)
        return rows if copies is None else copies.take(index, rows, self)

    def chunk(self) -> ChunkKV:
        """The whole chunk, every byte verified.

        Raises:
            CorruptChunk: a check failed. The entry has been dropped.
        """
        if self._promotion is None:
            return self._read(lambda source: source.chunk(), lambda chunk: chunk.num_bytes)
        layers = [self.layer(index) for index in range(self.num_layers)]
        rows = self._promotion.rows
        keys, values = rows or (torch.stack(each) for each in zip(*layers, strict=True))
        return ChunkKV(self.record, keys, values, self.is_lossless)

    def _read(self, read: Callable[[LayerSource], T], size: Callable[[T], int]) -> T:
        if self._other is None:
            begin = time.perf_counter()
            try:
                found = read(self._source)
            except BadFileError as error:
                assert self._on_damage is not None, "a source of bytes is opened with it"
                self._turn_to_other(self._on_damage(self.record.chunk_id, error))
            except CorruptChunk as damage:
                self._turn_to_other(damage)
            else:
                if self._meter is not None:
                    self._meter.read(size(found), begin)
                return found
        assert self._other is not None
        return read(self._other)

    def _turn_to_other(self, damage: CorruptChunk) -> None:
        with self._lock:
            if self._other is None:
                other = None if self._open_other is None else self._open_other()
                # Layers that were read before fit layers of the same precision only.
                if other is None or other.is_lossless != self.is_lossless:
                    raise damage
                self._other = other
