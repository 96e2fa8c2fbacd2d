"""The remote tier: chunks on a server that many engines share, read within a deadline or not at all."""

import logging
from collections.abc import Iterator, Sequence

from blend.chunk import ChunkKV, ChunkRecord
from blend.errors import CorruptChunk, StoreError, StoreFull
from blend.store.base import ChunkReader
from blend.store.chunk_file import ChunkFile, encode
from blend.store.chunk_header import BadFileError
from blend.store.config import REMOTE_DEADLINE_MS, REMOTE_PIECE_BYTES
from blend.store.deadline import Deadline
from blend.store.layout import is_id
from blend.store.mapped import MappedChunk
from blend.store.remote_entry import INLINE_BYTES, Layout, RemoteBytes, Span, UnreachableError, split
from blend.store.remote_line import RemoteLine, Traffic, UnreachableRemote
from blend.store.remote_uses import RemoteUses

logger = logging.getLogger(__name__)


class RemoteStore:
    """Chunk KV on a server; implements `blend.store.base.ChunkStore`.

    What is kept is the disk tier's file, so every byte that is read is under a checksum. A dead, slow or
    lying server raises from no method that reads: chunks are absent, at the latest when the deadline has
    passed, and at once as long as the breaker is open. What writes raises `UnreachableRemote`.

    Args:
        url: see `blend.store.remote_url`.
        mark: of the model, see `blend.store.layout`: one server holds the chunks of many.
        budget_bytes: most bytes of this model's chunks, or None for as many as the server takes. What was
            used least recently goes first, pinned chunks last. In a bucket it is kept by `shrink` alone.
        deadline_ms: of a read, with all its calls: `get`, `open`, or one layer.
        piece_bytes: of the largest value on the server.
        inline_bytes: see `blend.store.remote_entry`.

    Attributes:
        line: to the server; its `failures`, and its breaker's `state`, `opened` and `skipped`, are counters.
        hits, misses: reads that found a chunk, and that did not, for whatever reason.
        corrupt_found: entries that failed their checks and were dropped.
        uses: of its chunks, and pins; its `evicted` counts chunks that went for want of room.
        read, written: traffic.
    """

    def __init__(
        self,
        url: str,
        mark: str,
        budget_bytes: int | None = None,
        *,
        deadline_ms: int = REMOTE_DEADLINE_MS,
        piece_bytes: int = REMOTE_PIECE_BYTES,
        inline_bytes: int = INLINE_BYTES,
    ) -> None:
        """Nothing is asked of the server before it is used.

        Raises:
            ConfigError: the URL names no remote, or a package is missing.
        """
        self.line = RemoteLine(url, mark, deadline_ms)
        self.budget_bytes = budget_bytes
        self.hits = self.misses = self.corrupt_found = 0
        self.read, self.written = Traffic(), Traffic()
        self._client = self.line.client
        self.uses = RemoteUses(self.line)
        self._piece_bytes = piece_bytes
        self._inline_bytes = inline_bytes
        self._generation = 0

    def put(self, chunk: ChunkKV) -> None:
        """Store a chunk; when this returns it is found, whole. A chunk that is there stays as it is.

        Raises:
            StoreFull: the server has no room, or the chunk alone is over the budget.
            StoreError: the server cannot be reached, the id is none, or the dtype is unknown.
        """
        self.put_file(chunk.record.chunk_id, bytearray(b"".join(encode(chunk))))

    def put_file(self, chunk_id: str, data: bytearray) -> None:
        """The same of a chunk's file.

        Args:
            data: verified, as `blend.store.chunk_file` makes it.

        Raises:
            StoreFull, StoreError: as `put`.
        """
        _check_id(chunk_id)
        if self.budget_bytes is not None:
            if len(data) > self.budget_bytes:
                raise StoreFull(
                    f"a chunk of {len(data):,} bytes is over the budget of {self.budget_bytes:,} bytes; "
                    "raise remote_bytes"
                )
            if self._client.lists_cheaply:
                self.uses.make_room(len(data), self.budget_bytes, chunk_id)
        entry = split(data, chunk_id, self._piece_bytes, self._inline_bytes)
        if self.line.write(lambda: self._client.put(chunk_id, entry), self.written):
            self.line.breaker.succeeded()
            self.written.chunks += 1
            self.written.num_bytes += len(data)

    def get(self, record: ChunkRecord) -> ChunkKV | None:
        """The stored chunk, every byte verified, or None when it is absent or could not be had in time.

        Raises:
            CorruptChunk: it failed its checks, or its token ids are not `record`'s. The entry has been
                dropped.
        """
        file = self._open(record, Deadline(self.line.read_s))
        try:
            chunk = None if file is None else file.chunk()
        except UnreachableError:
            chunk = None
        except BadFileError as error:
            raise self._damaged(record.chunk_id, error) from error
        self._count_read(record.chunk_id, found=chunk is not None)
        return chunk

    def open(self, record: ChunkRecord) -> ChunkReader | None:
        """The same layer by layer: a layer is read, and verified, when it is asked for.

        A reader whose server has died raises `CorruptChunk`, and drops nothing.

        Raises:
            CorruptChunk: as `get`.
        """
        file = self._open(record, None)
        self._count_read(record.chunk_id, found=file is not None)
        return None if file is None else MappedChunk(file, self._damaged)

    def record(self, chunk_id: str) -> ChunkRecord | None:
        """What is stored under an id, without reading its tensors; None when absent or unreadable."""
        return self.records([chunk_id]).get(chunk_id)

    def records(self, chunk_ids: Sequence[str]) -> dict[str, ChunkRecord]:
        """The same of several, which costs little more; those absent or unreadable are left out.

        What is damaged is dropped. Several may take as long as a write.
        """
        ids = [chunk_id for chunk_id in chunk_ids if is_id(chunk_id)]
        seconds = self.line.read_s if len(ids) == 1 else self.line.write_s
        empty: list[bytes | None] = []
        heads = self.line.ask(lambda: self._client.heads(ids), empty, seconds) if ids else empty
        found = {}
        for chunk_id, head in zip(ids, heads, strict=False):
            try:
                if head is not None:
                    found[chunk_id] = self._file(chunk_id, head, Deadline(seconds)).record
            except UnreachableError:
                continue
            except BadFileError as error:
                self._damaged(chunk_id, error)
        return found

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
        _check_id(chunk_id)
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
        _check_id(chunk_id)
        head = self.line.write(lambda: self._client.head(chunk_id))
        return None if head is None else self._file(chunk_id, head, Deadline(self.line.write_s))

    def close(self) -> None:
        """Leave the server."""
        self.uses.tell()
        self.line.close()

    def _open(self, record: ChunkRecord, deadline: Deadline | None) -> ChunkFile | None:
        """Header and ids are verified. A deadline that is given is that of all reads to come."""
        chunk_id = record.chunk_id
        if not is_id(chunk_id):
            return None
        now = deadline or Deadline(self.line.read_s)
        try:
            head = self.line.call(lambda: self._client.head(chunk_id), now, self.read)
            file = None if head is None else self._file(chunk_id, head, deadline)
        except (UnreachableRemote, UnreachableError):
            return None
        except BadFileError as error:
            raise self._damaged(chunk_id, error) from error
        if file is not None and file.record != record:
            raise self._damaged(chunk_id, "its token ids are not those asked for")
        return file

    def _file(self, chunk_id: str, head: bytes, deadline: Deadline | None) -> ChunkFile:
        def fetch(layout: Layout, spans: Sequence[Span]) -> Sequence[bytes | memoryview | None]:
            by = deadline or Deadline(self.line.read_s)
            try:
                parts = self.line.call(lambda: self._client.fetch(chunk_id, layout, spans), by, self.read)
            except UnreachableRemote as error:
                raise UnreachableError(str(error)) from error
            self.line.breaker.succeeded()
            self.read.num_bytes += sum(len(part) for part in parts if part is not None)
            return parts

        self.read.num_bytes += len(head)
        return ChunkFile(RemoteBytes(head, fetch), chunk_id)

    def _damaged(self, chunk_id: str, reason: BadFileError | str) -> CorruptChunk:
        """Drop a chunk that failed a check; returns what is to be raised."""
        if isinstance(reason, UnreachableError):
            return CorruptChunk(f"chunk {chunk_id} cannot be read: {reason}")
        self.corrupt_found += 1
        logger.warning("dropped chunk %s of remote %s: %s", chunk_id, self.line.name, reason)
        self.line.ask(lambda: self._client.drop(chunk_id), None)
        return CorruptChunk(f"stored chunk {chunk_id} is damaged: {reason}; compute it again")

    def _count_read(self, chunk_id: str, *, found: bool) -> None:
        if found:
            self.hits += 1
            self.read.chunks += 1
            self.touch(chunk_id)
        else:
            self.misses += 1


def _check_id(chunk_id: str) -> None:
    if not is_id(chunk_id):
        raise StoreError(f"{chunk_id!r} is no chunk id: expected letters and digits only")
