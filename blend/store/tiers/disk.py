"""The disk tier: one file a chunk, found whole or not at all, and checked on every read.

A file's time of modification is the chunk's last use: every process and machine that shares the folder sees
it, and it outlives them. A pin is an empty file beside the chunk's.
"""

import errno
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock

from blend.chunks.chunk import ChunkKV, ChunkRecord
from blend.errors import CorruptChunk, StoreError, StoreFull
from blend.report.metrics import Meter
from blend.settings.sizes import check_fits
from blend.store.codecs.base import RAW, Codec
from blend.store.file_format.chunk_file import ChunkFile, encode, map_chunk, read_record
from blend.store.file_format.chunk_header import BadFileError, UnknownFormatError
from blend.store.file_format.durable import make_folder, remove_leftovers, sync_folder, write_durably
from blend.store.handle import ChunkHandle
from blend.store.layout import check_id, is_id
from blend.store.tiers.ledger import SUFFIX, Ledger
from blend.store.tiers.tier_meter import CORRUPT, EVICTIONS, TierMeter

logger = logging.getLogger(__name__)

PIN_SUFFIX = ".pin"
TOUCH_S = 5.0
"""A chunk's last use is written down at most this often by one process."""
CLOCK_GRAIN_NS = 20_000_000
"""File times come from the kernel's tick, 10 ms at the coarsest: two changes may bear the same one."""


class DiskStore:
    """Chunk KV as files in one folder; implements `blend.store.base.ChunkStore`.

    Attributes:
        root: the folder. It belongs to one model.
        budget_bytes: most bytes of chunk files, or None for as many as the disk holds.
        codec: what packs the chunks that are put; what is stored is read whatever packed it.
    """

    def __init__(
        self, root: Path, budget_bytes: int | None = None, codec: Codec = RAW, meter: Meter | None = None
    ) -> None:
        """Open the folder, make it when it is missing, and clear what dead writers left in it.

        Raises:
            StoreError: the folder cannot be made.
        """
        self.root = root
        self.budget_bytes = budget_bytes
        self.codec = codec
        self._meter = TierMeter("disk", meter)
        self._ledger = Ledger(root, self.is_pinned, self._remove)
        self._touched: dict[str, float] = {}
        self._lock = Lock()
        try:
            make_folder(root)
        except OSError as error:
            raise _store_error(root, error) from error
        remove_leftovers(root)

    @property
    def corrupt_found(self) -> int:
        """Entries that failed their checks since this store was opened."""
        return self._meter.total(CORRUPT)

    @property
    def evicted(self) -> int:
        """Chunks that went for want of room since this store was opened."""
        return self._meter.total(EVICTIONS)

    def put(self, chunk: ChunkKV) -> None:
        """Store a chunk; when this returns it is found, whole, also after a crash.

        Raises:
            StoreFull: no space left, or the chunk alone is over the budget. Nothing that was stored is
                lost, but for what the budget has evicted.
            StoreError: the folder cannot be written to, the chunk's id is none, or its dtype is unknown.
        """
        begin = time.perf_counter()
        self._write(chunk.record.chunk_id, encode(chunk, self.codec))
        self._meter.wrote(chunk.num_bytes, time.perf_counter() - begin)

    def put_file(self, chunk_id: str, pieces: Sequence[bytes | memoryview], tensor_bytes: int = 0) -> None:
        """The same for a chunk that is encoded already, and verified; the meter counts `tensor_bytes`.

        Raises:
            StoreFull, StoreError: as `put`.
        """
        begin = time.perf_counter()
        self._write(chunk_id, pieces)
        self._meter.wrote(tensor_bytes, time.perf_counter() - begin)

    def get(self, record: ChunkRecord) -> ChunkKV | None:
        """The stored chunk, or None when it is absent; its tensors are views of the mapped file.

        Raises:
            CorruptChunk: it failed its checks, or its token ids are not `record`'s. The entry has
                been dropped, or, when the file could not even be opened, left as it is.
        """
        handle = self.open(record)
        return None if handle is None else handle.chunk()

    def open(self, record: ChunkRecord) -> ChunkHandle | None:
        """The same layer by layer: a layer is read from the disk, and verified, when it is asked for.

        Raises:
            CorruptChunk: as `get`.
        """
        file = None
        try:
            file = self._map(record)
        finally:
            self._meter.looked_up(found=file is not None)
        if file is None:
            return None
        self.touch(record.chunk_id)
        return ChunkHandle(file, self._meter, self._damaged)

    def record(self, chunk_id: str) -> ChunkRecord | None:
        """What is stored under an id, without reading its tensors; None when absent or unreadable."""
        if not is_id(chunk_id):
            return None
        try:
            return read_record(self.path(chunk_id), chunk_id)
        except BadFileError as error:
            self._damaged(chunk_id, error)
        except OSError:
            pass
        return None

    def __contains__(self, chunk_id: object) -> bool:
        return isinstance(chunk_id, str) and is_id(chunk_id) and self.path(chunk_id).is_file()

    def ids(self) -> Iterator[str]:
        """Ids of all stored chunks, in no order."""
        return self._names(SUFFIX)

    def pinned_ids(self) -> Iterator[str]:
        """Ids of all pins, those of chunks that are not stored now included."""
        return self._names(PIN_SUFFIX)

    def generation(self) -> int:
        """A number that differs when chunks may have been added or removed since it was last asked."""
        modified, now = self.root.stat().st_mtime_ns, time.time_ns()
        # Within a tick of the last change another one may still come that bears the same time.
        return now if abs(now - modified) < CLOCK_GRAIN_NS else modified

    def touch(self, chunk_id: str) -> None:
        """Note that a chunk was used; written down once in a while, for eviction by other processes."""
        if not is_id(chunk_id):
            return
        with self._lock:
            self._note_use(chunk_id)
            now, last = time.monotonic(), self._touched.get(chunk_id)
            if last is not None and now - last < TOUCH_S:
                return
            self._touched[chunk_id] = now
        with suppress(OSError):  # gone, or a folder that may only be read
            os.utime(self.path(chunk_id))  # to the file system's own time: one clock for all machines

    def pin(self, chunk_id: str) -> None:
        """Evict this id after all others, in whatever process.

        Raises:
            StoreError: the folder cannot be written to, or the id is none.
        """
        path = self.path(chunk_id, PIN_SUFFIX)
        try:
            path.touch()
            sync_folder(self.root)
        except OSError as error:
            raise _store_error(path, error) from error

    def unpin(self, chunk_id: str) -> None:
        """Take a pin off; a no-op when there is none.

        Raises:
            StoreError: the folder cannot be written to.
        """
        if not is_id(chunk_id):
            return
        path = self.path(chunk_id, PIN_SUFFIX)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise _store_error(path, error) from error

    def is_pinned(self, chunk_id: str) -> bool:
        return is_id(chunk_id) and self.path(chunk_id, PIN_SUFFIX).exists()

    def delete(self, chunk_id: str) -> None:
        """Remove a chunk and its pin; a no-op when it is absent."""
        if is_id(chunk_id):
            self._remove(chunk_id)
            self.unpin(chunk_id)

    def drop(self, chunk_id: str) -> None:
        """Remove a chunk and leave its pin, as eviction does; a no-op when it is absent."""
        if is_id(chunk_id):
            self._remove(chunk_id)

    def shrink(self, max_bytes: int) -> list[str]:
        """Evict until the chunk files take at most so many bytes; returns the ids that went.

        Raises:
            StoreError: the folder cannot be listed or written to.
        """
        return self._make_room(0, max_bytes)

    def path(self, chunk_id: str, suffix: str = SUFFIX) -> Path:
        """Where a chunk's file is, or would be.

        Raises:
            StoreError: the id is none.
        """
        check_id(chunk_id)
        return self.root / f"{chunk_id}{suffix}"

    def _write(self, chunk_id: str, pieces: Sequence[bytes | memoryview]) -> None:
        path = self.path(chunk_id)
        if self.budget_bytes is not None:
            self._make_room(_checked_size(pieces, self.budget_bytes), self.budget_bytes, chunk_id)
        try:
            write_durably(path, pieces)
        except OSError as error:
            raise _store_error(path, error) from error
        with self._lock:
            self._note_use(chunk_id)

    def _map(self, record: ChunkRecord) -> ChunkFile | None:
        chunk_id = record.chunk_id
        if not is_id(chunk_id):
            return None
        try:
            file = map_chunk(self.path(chunk_id), chunk_id)
        except FileNotFoundError:
            return None
        except BadFileError as error:
            raise self._damaged(chunk_id, error) from error
        except OSError as error:
            # A passing fault (too many open files, say) must not cost a chunk that is sound.
            logger.warning("stored chunk %s cannot be read: %s", self.path(chunk_id), error)
            raise CorruptChunk(f"stored chunk {chunk_id} cannot be read: {error}") from error
        if file.record != record:
            raise self._damaged(chunk_id, "its token ids are not those asked for")
        return file

    def _damaged(self, chunk_id: str, reason: BadFileError | str) -> CorruptChunk:
        """Drop a chunk that failed a check; returns what is raised. Files of other versions stay."""
        if isinstance(reason, UnknownFormatError):
            return CorruptChunk(f"stored chunk {chunk_id} cannot be read: {reason}")
        self._meter.found_corrupt()
        logger.warning("dropped stored chunk %s: %s", self.path(chunk_id), reason)
        with suppress(OSError):
            self._remove(chunk_id)
        return CorruptChunk(f"stored chunk {chunk_id} is damaged: {reason}; compute it again")

    def _make_room(self, num_bytes: int, budget_bytes: int, chunk_id: str | None = None) -> list[str]:
        try:
            with self._lock:
                evicted = self._ledger.make_room(num_bytes, budget_bytes, chunk_id)
        except OSError as error:
            raise _store_error(self.root, error) from error
        self._meter.evicted(len(evicted))
        return evicted

    def _note_use(self, chunk_id: str) -> None:
        if self.budget_bytes is not None:
            self._ledger.used(chunk_id, time.time_ns())

    def _names(self, suffix: str) -> Iterator[str]:
        with os.scandir(self.root) as entries:
            for entry in entries:
                if entry.name.endswith(suffix) and not entry.name.startswith("."):
                    yield entry.name.removesuffix(suffix)

    def _remove(self, chunk_id: str) -> None:
        self.path(chunk_id).unlink(missing_ok=True)
        self._touched.pop(chunk_id, None)


def _checked_size(pieces: Sequence[bytes | memoryview], budget_bytes: int) -> int:
    size = sum(memoryview(piece).nbytes for piece in pieces)
    check_fits(size, budget_bytes, "disk_bytes")
    return size


def _store_error(path: Path, error: OSError) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(
            f"no space left for {path}: {error.strerror}; free some and run again, what is stored stays"
        )
    return StoreError(f"cannot write {path}: {error.strerror}; check the folder and its permissions")
