"""A store of this machine in front of one that machines share."""

import logging
from collections.abc import Iterator
from queue import Full, Queue
from threading import Lock, Thread

from blend.chunks.chunk import ChunkKV, ChunkRecord
from blend.errors import CorruptChunk, StoreError
from blend.store.file_format.byte_source import HeldBytes
from blend.store.file_format.chunk_file import ChunkFile
from blend.store.file_format.chunk_header import BadFileError
from blend.store.handle import ChunkHandle
from blend.store.remote.exchange import lower_thread_priority
from blend.store.remote.remote import RemoteStore
from blend.store.tiers.disk import DiskStore

logger = logging.getLogger(__name__)

WAITING_CHUNKS = 8
"""Files of `far` that wait to be written to `near`; chunks beyond are not kept, and read from `far` again."""


class BackedStore:
    """Chunks of `near`, and behind them those of `far`; implements `blend.store.base.ChunkStore`.

    The file of a chunk that is read from `far` is written to `near` as it is, in the background. What is put
    goes to `near` alone: `remote.exchange` brings it to `far`, which no request waits for. A chunk that
    is damaged in `near` is read from `far`.

    Attributes:
        near: of this machine.
        far: shared with others; absent chunks are all that it makes of its own troubles.
        promoted: chunks of `far` that were written to `near`.
    """

    def __init__(self, near: DiskStore, far: RemoteStore) -> None:
        self.near = near
        self.far = far
        self.promoted = 0
        self._waiting: Queue[tuple[str, memoryview]] = Queue(WAITING_CHUNKS)
        self._thread: Thread | None = None
        self._lock = Lock()

    def put(self, chunk: ChunkKV) -> None:
        """Store a chunk in `near`.

        Raises:
            StoreFull: no space left there.
            StoreError: it cannot be written to.
        """
        self.near.put(chunk)

    def get(self, record: ChunkRecord) -> ChunkKV | None:
        """The stored chunk, every byte verified, or None when it is absent in both.

        Raises:
            CorruptChunk: it failed its checks, or its token ids are not `record`'s, and `far` has no better
                one. The entry has been dropped.
        """
        try:
            chunk, damage = self.near.get(record), None
        except CorruptChunk as error:
            chunk, damage = None, error
        if chunk is not None:
            return chunk
        far = self._open_far(record)
        if far is None and damage is not None:
            raise damage
        return None if far is None else far.chunk()

    def open(self, record: ChunkRecord) -> ChunkHandle | None:
        """The same layer by layer; a chunk of `far` is promoted.

        Raises:
            CorruptChunk: as `get`.
        """
        try:
            reader, damage = self.near.open(record), None
        except CorruptChunk as error:
            reader, damage = None, error
        if reader is not None:
            return ChunkHandle(reader, open_other=lambda: self._open_far(record))
        behind = self._open_far(record)
        if behind is not None:
            return behind
        if damage is not None:
            raise damage
        return None

    def _open_far(self, record: ChunkRecord) -> ChunkHandle | None:
        file = self.far.read_file(record)
        if file is None:
            return None
        self._promote(record.chunk_id, file.data)
        return self.far.handle(file)

    def record(self, chunk_id: str) -> ChunkRecord | None:
        """What is stored under an id, without reading its tensors; None when absent or unreadable."""
        return self.near.record(chunk_id) or self.far.record(chunk_id)

    def __contains__(self, chunk_id: object) -> bool:
        return chunk_id in self.near or chunk_id in self.far

    def ids(self) -> Iterator[str]:
        """Ids of all chunks of both, in no order."""
        return iter({*self.near.ids(), *self.far.ids()})

    def generation(self) -> int:
        """A number that differs when chunks may have been added or removed since it was last asked."""
        return (self.near.generation() << 64) + self.far.generation()

    def touch(self, chunk_id: str) -> None:
        """Note that a chunk was used, in both."""
        self.near.touch(chunk_id)
        self.far.touch(chunk_id)

    def pin(self, chunk_id: str) -> None:
        """Evict this id after all others, in both.

        Raises:
            StoreError: one of them cannot be written to.
        """
        self.near.pin(chunk_id)
        self.far.pin(chunk_id)

    def unpin(self, chunk_id: str) -> None:
        """Take a pin off in both; a no-op when there is none.

        Raises:
            StoreError: one of them cannot be written to.
        """
        self.near.unpin(chunk_id)
        self.far.unpin(chunk_id)

    def is_pinned(self, chunk_id: str) -> bool:
        """Whether it is pinned in `near`: what evicts asks this of chunk after chunk."""
        return self.near.is_pinned(chunk_id)

    def delete(self, chunk_id: str) -> None:
        """Remove a chunk and its pin from both; a no-op when it is absent.

        Raises:
            StoreError: `far` cannot be reached.
        """
        self.near.delete(chunk_id)
        self.far.delete(chunk_id)

    def settle(self) -> None:
        """Return when all that waits to be promoted has been written, or could not be."""
        self._waiting.join()

    def _promote(self, chunk_id: str, data: memoryview) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = Thread(target=self._keep_all, name="kvblend-promote", daemon=True)
                self._thread.start()
        try:
            self._waiting.put_nowait((chunk_id, data))
        except Full:
            logger.debug("too many chunks wait to be promoted; %s is not", chunk_id)

    def _keep_all(self) -> None:
        lower_thread_priority()  # the blend that reads the chunk is being computed
        while True:
            chunk_id, data = self._waiting.get()
            try:
                if chunk_id not in self.near:
                    self._keep(chunk_id, data)
            except (StoreError, BadFileError, OSError) as error:
                logger.warning("chunk %s of a remote is not kept here: %s", chunk_id, error)
            finally:
                self._waiting.task_done()

    def _keep(self, chunk_id: str, data: memoryview) -> None:
        # As it is: packed again it would lose more. Its reader has not yet verified all of it.
        file = ChunkFile(HeldBytes(data), chunk_id)
        file.check()
        self.near.put_file(chunk_id, [data], file.num_bytes)
        self.promoted += 1
