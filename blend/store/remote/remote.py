"""The remote tier: chunks on a server that many engines share, read within a deadline or not at all."""

import time
from collections.abc import Callable, Iterator, Sequence

from blend.chunks.chunk import ChunkKV, ChunkRecord
from blend.report.metrics import Meter
from blend.settings.sizes import check_fits
from blend.store.codecs.base import RAW, Codec
from blend.store.config import REMOTE_DEADLINE_MS, REMOTE_PIECE_BYTES
from blend.store.file_format.chunk_file import ChunkFile, encode
from blend.store.file_format.chunk_header import BadFileError
from blend.store.handle import ChunkHandle
from blend.store.layout import check_id, is_id
from blend.store.remote.deadline import Deadline
from blend.store.remote.entry import INLINE_BYTES, UnreachableError, split
from blend.store.remote.files import RemoteFiles
from blend.store.remote.line import RemoteLine, Traffic
from blend.store.remote.uses import RemoteUses
from blend.store.tiers.tier_meter import CORRUPT, TierMeter


class RemoteStore:
    """Chunk KV on a server; implements `blend.store.base.ChunkStore`.

    What is kept is the disk tier's file, so every byte that is read is under a checksum. A dead, slow or
    lying server raises from no method that reads: chunks are absent, at the latest when the deadline has
    passed, and at once as long as the breaker is open. What writes raises `UnreachableRemote`.

    Args:
        url: see `blend.store.remote.url`.
        mark: of the model, see `blend.store.layout`: one server holds the chunks of many.
        budget_bytes: most bytes of this model's chunks, or None for as many as the server takes. What was
            used least recently goes first, pinned chunks last. In a bucket it is kept by `shrink` alone.
        codec: what packs the chunks that are put; what is stored is read whatever packed it.
        deadline_ms: of a read, with all its calls: `get`, `open`, or one layer.
        piece_bytes: of the largest value on the server.
        inline_bytes: see `blend.store.remote.entry`.
        meter: of this process.

    Attributes:
        line: to the server; its `failures`, and its breaker's `state`, `opened` and `skipped`, are counters.
        uses: of its chunks, and pins; its `evicted` counts chunks that went for want of room.
        read, written: traffic.
    """

    def __init__(
        self,
        url: str,
        mark: str,
        budget_bytes: int | None = None,
        *,
        codec: Codec = RAW,
        deadline_ms: int = REMOTE_DEADLINE_MS,
        piece_bytes: int = REMOTE_PIECE_BYTES,
        inline_bytes: int = INLINE_BYTES,
        meter: Meter | None = None,
    ) -> None:
        """Nothing is asked of the server before it is used.

        Raises:
            ConfigError: the URL names no remote, or a package is missing.
        """
        self.line = RemoteLine(url, mark, deadline_ms, meter)
        self.budget_bytes = budget_bytes
        self.codec = codec
        self.written = Traffic()
        self._client = self.line.client
        self._meter = TierMeter("remote", meter)
        self.uses = RemoteUses(self.line, self._meter)
        self._piece_bytes = piece_bytes
        self._inline_bytes = inline_bytes
        self._generation = 0
        self._files = RemoteFiles(self.line, self._meter)
        self.read = self._files.read

    @property
    def corrupt_found(self) -> int:
        """Entries that failed their checks, and were dropped, since this store was opened."""
        return self._meter.total(CORRUPT)

    def put(self, chunk: ChunkKV) -> None:
        """Store a chunk; when this returns it is found, whole. A chunk that is there stays as it is.

        Raises:
            StoreFull: the server has no room, or the chunk alone is over the budget.
            StoreError: the server cannot be reached, the id is none, or the dtype is unknown.
        """
        begin = time.perf_counter()
        self.put_file(chunk.record.chunk_id, bytearray(b"".join(encode(chunk, self.codec))))
        self._meter.wrote(chunk.num_bytes, time.perf_counter() - begin)

    def put_file(self, chunk_id: str, data: bytearray) -> None:
        """The same of a chunk's file.

        Args:
            data: verified, as `blend.store.file_format.chunk_file` makes it.

        Raises:
            StoreFull, StoreError: as `put`.
        """
        check_id(chunk_id)
        if self.budget_bytes is not None:
            check_fits(len(data), self.budget_bytes, "remote_bytes")
            if self._client.lists_cheaply:
                self.uses.make_room(len(data), self.budget_bytes, chunk_id)
        entry = split(data, chunk_id, self._piece_bytes, self._inline_bytes)
        if self.line.write(lambda: self._client.put(chunk_id, entry), self.written):
            self.line.breaker.succeeded()
            self.written.chunks += 1
            self.written.num_bytes += len(data)

    def get(self, record: ChunkRecord, whole: Callable[[memoryview], None] | None = None) -> ChunkKV | None:
        """The stored chunk, every byte verified, or None when it is absent or could not be had in time.

        Args:
            whole: takes the chunk's file once all its bytes have come; not all of them are verified then.

        Raises:
            CorruptChunk: it failed its checks, or its token ids are not `record`'s. The entry has been
                dropped.
        """
        begin = time.perf_counter()
        file = self._files.open(record, Deadline(self.line.read_s), whole)
        try:
            chunk = None if file is None else file.chunk()
        except UnreachableError:
            chunk = None
        except BadFileError as error:
            raise self._files.damaged(record.chunk_id, error) from error
        self._looked_up(record.chunk_id, found=chunk is not None)
        if chunk is not None:
            self._meter.read(chunk.num_bytes, begin)
        return chunk

    def open(
        self, record: ChunkRecord, whole: Callable[[memoryview], None] | None = None
    ) -> ChunkHandle | None:
        """The same layer by layer: a layer is read, and verified, when it is asked for.

        A reader whose server has died raises `CorruptChunk`, and drops nothing.

        Args:
            whole: as `get`.

        Raises:
            CorruptChunk: as `get`.
        """
        file = self._files.open(record, whole=whole)
        self._looked_up(record.chunk_id, found=file is not None)
        return None if file is None else ChunkHandle(file, self._meter, self._files.damaged)

    def read_file(self, chunk_id: str) -> memoryview | None:
        """A chunk's file as it was written, every byte verified, or None when it is absent or cannot be had.

        It may take as long as a write.

        Raises:
            CorruptChunk: it failed its checks. The entry has been dropped.
        """
        check_id(chunk_id)
        return self._files.copy(chunk_id)

    def record(self, chunk_id: str) -> ChunkRecord | None:
        """What is stored under an id, without reading its tensors; None when absent or unreadable."""
        return self.records([chunk_id]).get(chunk_id)

    def records(self, chunk_ids: Sequence[str]) -> dict[str, ChunkRecord]:
        """The same of several, which costs little more; those absent or unreadable are left out.

        What is damaged is dropped. Several may take as long as a write.
        """
        return self._files.records(chunk_ids)

    def __contains__(self, chunk_id: object) -> bool:
        if not isinstance(chunk_id, str) or not is_id(chunk_id):
            return False
        return self.line.ask(lambda: self._client.has(chunk_id), False)

    def ids(self) -> Iterator[str]:
        """Ids of all stored chunks, in no order; none while the server cannot be reached."""
        nothing: set[str] = set()
        return iter(self.line.ask(self._client.ids, nothing, self.line.write_s))

    def generation(self) -> int:
        """A number that differs when chunks may have been added or removed since it was last asked.

        While the server cannot be reached it is the last one known.
        """
        self._generation = self.line.ask(self._client.generation, self._generation)
        return self._generation

    def touch(self, chunk_id: str) -> None:
        """Note that a chunk was used; the server is told soon, in the background."""
        if is_id(chunk_id):
            self.uses.note(chunk_id)

    def pin(self, chunk_id: str) -> None:
        """Evict this id after all others, in whatever process.

        Raises:
            StoreError: the server cannot be reached, or the id is none.
        """
        check_id(chunk_id)
        self.uses.pin(chunk_id)

    def unpin(self, chunk_id: str) -> None:
        """Take a pin off; a no-op when there is none.

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
        """Remove a chunk and leave its pin, as eviction does; a no-op when it is absent.

        Raises:
            StoreError: the server cannot be reached.
        """
        if is_id(chunk_id):
            self.line.write(lambda: self._client.drop(chunk_id))

    def shrink(self, max_bytes: int) -> list[str]:
        """Evict until the chunks take at most so many bytes, and remove what dead writers left.

        Returns:
            The ids that went.

        Raises:
            StoreError: the server cannot be reached.
        """
        evicted = self.uses.make_room(0, max_bytes)
        self.line.write(self._client.sweep)
        return evicted

    def file(self, chunk_id: str) -> ChunkFile | None:
        """A chunk's file, whatever it holds: nothing is dropped. It may take as long as a write.

        Raises:
            BadFileError: it failed a check.
            StoreError: the server cannot be reached.
        """
        check_id(chunk_id)
        return self._files.look(chunk_id)

    def close(self) -> None:
        """Leave the server."""
        self.uses.tell()
        self.line.close()

    def _looked_up(self, chunk_id: str, *, found: bool) -> None:
        self._meter.looked_up(found=found)
        if found:
            self.read.chunks += 1
            self.touch(chunk_id)
