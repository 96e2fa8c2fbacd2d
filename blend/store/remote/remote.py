"""The remote tier: chunks on a server that many engines share, read within a deadline or not at all."""

import logging
import time
from collections.abc import Iterator, Sequence

from blend.chunks.chunk import ChunkKV, ChunkRecord
from blend.errors import CorruptChunk
from blend.report.metrics import Meter
from blend.settings.sizes import check_fits
from blend.store.codecs.base import RAW, Codec
from blend.store.config import REMOTE_DEADLINE_MS
from blend.store.file_format.byte_source import HeldBytes, IncompleteError, LeadingBytes
from blend.store.file_format.chunk_file import ChunkFile, encode
from blend.store.file_format.chunk_header import BadFileError, UnknownFormatError
from blend.store.handle import ChunkHandle
from blend.store.layout import check_id, is_id
from blend.store.remote.client import Head
from blend.store.remote.connection import RemoteConnection, UnreachableRemote
from blend.store.remote.uses import RemoteUses
from blend.store.tiers.tier_meter import CORRUPT, TierMeter

logger = logging.getLogger(__name__)

HEAD_BYTES = 8 << 10
"""First bytes of a file that are read for its record: header and ids of most chunks of 512 tokens."""


class RemoteStore:
    """Chunk KV on a server; implements `blend.store.base.ChunkStore`.

    The server keeps the disk tier's files: a checksum covers every byte. Reads never raise for a dead, slow
    or lying server: its chunks are absent within the deadline. Writes raise `UnreachableRemote`.

    Args:
        url: see `blend.store.remote.url`.
        mark: of the model, see `blend.store.layout`: one server holds the chunks of many models.
        budget_bytes: largest size of this model's chunks, or None for as many as the server takes. The least
            recently used go first, pinned chunks last. In a bucket `shrink` alone enforces it.
        codec: what packs the chunks that are put; chunks of all codecs are read.
        deadline_ms: of reading one chunk.
        meter: of this process.

    Attributes:
        connection: to the server; its `failures` and its breaker count what went wrong.
        uses: last uses and pins; its `evicted` counts chunks that were evicted.
    """

    def __init__(
        self,
        url: str,
        mark: str,
        budget_bytes: int | None = None,
        *,
        codec: Codec = RAW,
        deadline_ms: int = REMOTE_DEADLINE_MS,
        meter: Meter | None = None,
    ) -> None:
        """Connects when it is first used.

        Raises:
            ConfigError: the URL names no remote, or a package is missing.
        """
        self.connection = RemoteConnection(url, mark, deadline_ms, meter)
        self.budget_bytes = budget_bytes
        self.codec = codec
        self._meter = TierMeter("remote", meter)
        self.uses = RemoteUses(self.connection, self._meter)
        self._generation = 0

    @property
    def corrupt_found(self) -> int:
        """Entries that failed their checks, and were dropped, since this store was opened."""
        return self._meter.total(CORRUPT)

    def put(self, chunk: ChunkKV) -> None:
        """Store a chunk; when this returns it is found, whole. A stored chunk stays as it is.

        Raises:
            StoreFull: the server has no room, or the chunk alone is over the budget.
            StoreError: the server cannot be reached, the id is malformed, or the dtype is unknown.
        """
        begin = time.perf_counter()
        self.put_file(chunk.record.chunk_id, b"".join(encode(chunk, self.codec)))
        self._meter.wrote(chunk.num_bytes, time.perf_counter() - begin)

    def put_file(self, chunk_id: str, data: bytes | memoryview) -> None:
        """Store a chunk's file, which the caller has verified.

        Raises:
            StoreFull, StoreError: as `put`.
        """
        check_id(chunk_id)
        if self.budget_bytes is not None:
            check_fits(len(data), self.budget_bytes, "remote_bytes")
            if self.connection.lists_cheaply:
                self.uses.make_room(len(data), self.budget_bytes, chunk_id)
        if self.connection.write(lambda client: client.put(chunk_id, memoryview(data))):
            self.connection.breaker.succeeded()

    def get(self, record: ChunkRecord) -> ChunkKV | None:
        """The stored chunk, every byte verified, or None when it is absent or missed the deadline.

        Raises:
            CorruptChunk: it failed its checks, or its token ids are not `record`'s. The entry has been
                dropped.
        """
        handle = self.open(record)
        return None if handle is None else handle.chunk()

    def open(self, record: ChunkRecord) -> ChunkHandle | None:
        """The same layer by layer: the file is read now, each layer is verified when it is asked for.

        Raises:
            CorruptChunk: as `get`.
        """
        file = self.read_file(record)
        return None if file is None else self.handle(file)

    def handle(self, file: ChunkFile) -> ChunkHandle:
        """A handle of a file that `read_file` has returned."""
        return ChunkHandle(file, self._meter, self._damaged)

    def read_file(self, record: ChunkRecord) -> ChunkFile | None:
        """A chunk's file, its header and ids verified, or None when it is absent or missed the deadline.

        Raises:
            CorruptChunk: as `get`.
        """
        begin, file = time.perf_counter(), None
        try:
            file = self._read_file(record)
        finally:
            self._meter.looked_up(found=file is not None)
        if file is not None:
            self._meter.read(0, begin)
            self.uses.note(record.chunk_id)
        return file

    def copy_file(self, chunk_id: str) -> memoryview | None:
        """The bytes of a chunk's file, verified, or None as `read_file`. It may take as long as a write.

        Raises:
            CorruptChunk: it failed its checks. The entry has been dropped.
        """
        data = self._fetch(chunk_id, self.connection.write_s) if is_id(chunk_id) else None
        if data is None:
            return None
        try:
            ChunkFile(HeldBytes(data), chunk_id).check()
        except BadFileError as error:
            raise self._damaged(chunk_id, error) from error
        return data

    def peek_file(self, chunk_id: str) -> ChunkFile | None:
        """A chunk's file, or None when it is absent; nothing is dropped. It may take as long as a write.

        Raises:
            BadFileError: header or ids failed their checks.
            StoreError: the server cannot be reached.
        """
        check_id(chunk_id)
        data = self.connection.write(lambda client: client.get(chunk_id))
        return None if data is None else ChunkFile(HeldBytes(data), chunk_id)

    def record(self, chunk_id: str) -> ChunkRecord | None:
        """What is stored under an id, without reading its tensors; None when absent or unreadable."""
        return self.records([chunk_id]).get(chunk_id)

    def records(self, chunk_ids: Sequence[str], num_bytes: int = HEAD_BYTES) -> dict[str, ChunkRecord]:
        """The records of several chunks in few round trips, without those that are absent or unreadable.

        Damaged chunks are dropped. Several ids have the deadline of a write.

        Args:
            num_bytes: read of each file; files with longer ids are read a second time.
        """
        ids = [chunk_id for chunk_id in chunk_ids if is_id(chunk_id)]
        seconds = self.connection.read_s if len(ids) == 1 else self.connection.write_s
        nothing: list[Head | None] = []
        heads = self.connection.read(lambda client: client.heads(ids, num_bytes), nothing, seconds)
        found, longer = dict[str, ChunkRecord](), dict[str, int]()
        for chunk_id, head in zip(ids, heads, strict=False):
            try:
                if head is not None:
                    found[chunk_id] = ChunkFile(LeadingBytes(*head), chunk_id).record
            except IncompleteError as error:
                longer[chunk_id] = error.num_bytes
            except BadFileError as error:
                self._damaged(chunk_id, error)
        return found | self.records([*longer], max(longer.values())) if longer else found

    def __contains__(self, chunk_id: object) -> bool:
        if not isinstance(chunk_id, str) or not is_id(chunk_id):
            return False
        return self.connection.read(lambda client: client.has(chunk_id), False)

    def ids(self) -> Iterator[str]:
        """Ids of all stored chunks, in no order; none while the server cannot be reached."""
        nothing: set[str] = set()
        return iter(self.connection.read(lambda client: client.ids(), nothing, self.connection.write_s))

    def generation(self) -> int:
        """A number that differs when chunks may have been added or removed since the last call.

        While the server cannot be reached it is the last one known.
        """
        self._generation = self.connection.read(lambda client: client.generation(), self._generation)
        return self._generation

    def touch(self, chunk_id: str) -> None:
        """Record that a chunk was used; the server learns of it in the background."""
        if is_id(chunk_id):
            self.uses.note(chunk_id)

    def pin(self, chunk_id: str) -> None:
        """Evict this id after all others, in every process.

        Raises:
            StoreError: the server cannot be reached, or the id is malformed.
        """
        check_id(chunk_id)
        self.uses.pin(chunk_id)

    def unpin(self, chunk_id: str) -> None:
        """Remove a pin; a no-op when there is none.

        Raises:
            StoreError: the server cannot be reached.
        """
        if is_id(chunk_id):
            self.uses.unpin(chunk_id)

    def is_pinned(self, chunk_id: str) -> bool:
        return chunk_id in self.uses.pins()

    def delete(self, chunk_id: str) -> None:
        """Remove a chunk and its pin; a no-op when it is absent.

        Raises:
            StoreError: the server cannot be reached.
        """
        self.drop(chunk_id)
        self.unpin(chunk_id)

    def drop(self, chunk_id: str) -> None:
        """Remove a chunk and keep its pin, as eviction does; a no-op when it is absent.

        Raises:
            StoreError: the server cannot be reached.
        """
        if is_id(chunk_id):
            self.connection.write(lambda client: client.drop(chunk_id))

    def shrink(self, max_bytes: int) -> list[str]:
        """Evict until the chunks take at most `max_bytes`; returns the evicted ids.

        Raises:
            StoreError: the server cannot be reached.
        """
        return self.uses.make_room(0, max_bytes)

    def close(self) -> None:
        """Report the last uses and leave the server."""
        self.uses.tell()
        self.connection.close()

    def _read_file(self, record: ChunkRecord) -> ChunkFile | None:
        chunk_id = record.chunk_id
        data = self._fetch(chunk_id, self.connection.read_s) if is_id(chunk_id) else None
        if data is None:
            return None
        try:
            file = ChunkFile(HeldBytes(data), chunk_id)
        except BadFileError as error:
            raise self._damaged(chunk_id, error) from error
        if file.record != record:
            raise self._damaged(chunk_id, "its token ids are not those asked for")
        return file

    def _fetch(self, chunk_id: str, seconds: float) -> memoryview | None:
        try:
            data = self.connection.call(lambda client: client.get(chunk_id), seconds)
        except UnreachableRemote:
            return None
        self.connection.breaker.succeeded()
        return data

    def _damaged(self, chunk_id: str, reason: BadFileError | str) -> CorruptChunk:
        """Drop a chunk that failed a check; returns what is raised. Files of other versions stay."""
        if isinstance(reason, UnknownFormatError):
            return CorruptChunk(f"chunk {chunk_id} of remote {self.connection.name} cannot be read: {reason}")
        self._meter.found_corrupt()
        logger.warning("dropped chunk %s of remote %s: %s", chunk_id, self.connection.name, reason)
        self.connection.read(lambda client: client.drop(chunk_id), None)
        return CorruptChunk(f"stored chunk {chunk_id} is damaged: {reason}; compute it again")
