"""A memory tier in front of another store, so that a chunk is read and verified once."""

import logging
import time
from collections import OrderedDict
from collections.abc import Iterator
from threading import Lock

import torch

from blend.chunks.chunk import ChunkKV, ChunkRecord
from blend.report.metrics import Meter
from blend.store.base import ChunkStore
from blend.store.handle import ChunkHandle
from blend.store.tiers.place import MEMORY, Place
from blend.store.tiers.promotion import Promotion
from blend.store.tiers.tier_meter import TierMeter

logger = logging.getLogger(__name__)


class CachedStore:
    """The most recently used chunks of `inner`, in memory; implements `blend.store.base.ChunkStore`.

    A chunk is promoted when it is used. The least recently used goes first, pinned ones last.

    What is kept is a copy in plain memory, never a view of a mapped file: nothing that happens to the
    file afterwards can change a chunk that was verified. A chunk never changes under its id, so a kept
    one stays right when another process removes it from `inner`.

    Attributes:
        inner: the store behind, the only one that is durable.
        budget_bytes: most bytes of tensors to keep; a larger chunk is passed through.
        held_bytes: bytes of tensors kept now.
    """

    def __init__(
        self,
        inner: ChunkStore,
        budget_bytes: int,
        meter: Meter | None = None,
        *,
        tier: str = "memory",
        place: Place = MEMORY,
    ) -> None:
        """Keep nothing yet.

        Args:
            meter: counts what it does, as `tier`.
            place: where the copies are; what it gives has the heads of this place alone.
        """
        self.inner = inner
        self.budget_bytes = budget_bytes
        self.held_bytes = 0
        self._chunks: OrderedDict[str, ChunkKV] = OrderedDict()  # least recently used first
        self._meter = TierMeter(tier, meter)
        self._place = place
        self._lock = Lock()

    def put(self, chunk: ChunkKV) -> None:
        """Store a chunk in `inner`. It is not kept here: what is written in bulk is not what is asked for.

        Raises:
            StoreFull: no space left in `inner`.
            StoreError: `inner` cannot be written to.
        """
        self.inner.put(chunk)

    def get(self, record: ChunkRecord) -> ChunkKV | None:
        """The stored chunk, or None when it is absent.

        Raises:
            CorruptChunk: it failed its checks, or its token ids are not `record`'s. The entry has
                been dropped.
        """
        held = self._held(record)
        if held is not None:
            return held.chunk()
        chunk = self.inner.get(record)
        return None if chunk is None else self._keep_copy(chunk)

    def open(self, record: ChunkRecord) -> ChunkHandle | None:
        """The same layer by layer; the chunk is kept once all its layers were read.

        Raises:
            CorruptChunk: as `get`.
        """
        held = self._held(record)
        if held is not None:
            return held
        behind = self.inner.open(record)
        promotion = Promotion(self._place, self.budget_bytes, self._keep)
        return None if behind is None else ChunkHandle(behind, promotion=promotion)

    def record(self, chunk_id: str) -> ChunkRecord | None:
        """What is stored under an id, without reading its tensors; None when absent or unreadable."""
        return self.inner.record(chunk_id)

    def __contains__(self, chunk_id: object) -> bool:
        return chunk_id in self.inner

    def ids(self) -> Iterator[str]:
        """Ids of all stored chunks, in no order."""
        return self.inner.ids()

    def generation(self) -> int:
        """A number that differs when chunks may have been added or removed since it was last asked."""
        return self.inner.generation()

    def touch(self, chunk_id: str) -> None:
        """Note that a chunk was used, here and in `inner`."""
        with self._lock:
            if chunk_id in self._chunks:
                self._chunks.move_to_end(chunk_id)
        self.inner.touch(chunk_id)

    def pin(self, chunk_id: str) -> None:
        """Evict this id after all others, in both tiers.

        Raises:
            StoreError: `inner` cannot be written to.
        """
        self.inner.pin(chunk_id)

    def unpin(self, chunk_id: str) -> None:
        """Take a pin off; a no-op when there is none.

        Raises:
            StoreError: `inner` cannot be written to.
        """
        self.inner.unpin(chunk_id)

    def is_pinned(self, chunk_id: str) -> bool:
        return self.inner.is_pinned(chunk_id)

    def delete(self, chunk_id: str) -> None:
        """Remove a chunk from both tiers, and its pin; a no-op when it is absent."""
        with self._lock:
            self._forget(chunk_id)
        self.inner.delete(chunk_id)

    def _held(self, record: ChunkRecord) -> ChunkHandle | None:
        kept = self._chunks.get(record.chunk_id)
        found = kept is not None and kept.record == record
        self._meter.looked_up(found=found)
        if kept is None or not found:
            return None
        self.touch(record.chunk_id)  # or the tier behind would take it for unused, and evict it
        return ChunkHandle(kept, self._meter)

    def _keep_copy(self, chunk: ChunkKV) -> ChunkKV:
        own = self._place.own(chunk)
        if own.num_bytes > self.budget_bytes:
            return own
        begin = time.perf_counter()
        try:
            kept = self._place.copy(own)
        except torch.OutOfMemoryError:
            logger.warning("no room on %s for a chunk; lower the tier's budget", self._place.device)
            return own
        self._keep(kept, time.perf_counter() - begin)
        return kept

    def _keep(self, chunk: ChunkKV, copying_s: float) -> None:
        size = chunk.num_bytes
        if size > self.budget_bytes:
            return
        with self._lock:
            self._forget(chunk.record.chunk_id)  # another thread may have read the same chunk meanwhile
            while self.held_bytes + size > self.budget_bytes:
                self._forget(self._victim())
                self._meter.evicted()
            self._chunks[chunk.record.chunk_id] = chunk
            self._now_held(self.held_bytes + size)
        self._meter.wrote(size, copying_s)

    def _victim(self) -> str:
        unpinned = (chunk_id for chunk_id in self._chunks if not self.inner.is_pinned(chunk_id))
        return next(unpinned, next(iter(self._chunks)))

    def _forget(self, chunk_id: str) -> None:
        chunk = self._chunks.pop(chunk_id, None)
        if chunk is not None:
            self._now_held(self.held_bytes - chunk.num_bytes)

    def _now_held(self, num_bytes: int) -> None:
        self._meter.holds(num_bytes - self.held_bytes)
        self.held_bytes = num_bytes
