"""Chunks' files on a server, read within a deadline or not at all, every byte under a checksum."""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from blend.chunks.chunk import ChunkRecord
from blend.errors import CorruptChunk
from blend.store.file_format.byte_source import HeldBytes
from blend.store.file_format.chunk_file import ChunkFile
from blend.store.file_format.chunk_header import BadFileError
from blend.store.layout import is_id
from blend.store.remote.deadline import Allowance, Deadline
from blend.store.remote.entry import Layout, RemoteBytes, Span, UnreachableError
from blend.store.remote.line import RemoteLine, Traffic, UnreachableRemote
from blend.store.tiers.tier_meter import TierMeter

logger = logging.getLogger(__name__)


class RemoteFiles:
    """The files of one model's chunks. What fails a check is dropped from the server.

    Args:
        line: to the server.
        meter: of the tier.

    Attributes:
        read: traffic.
    """

    def __init__(self, line: RemoteLine, meter: TierMeter) -> None:
        self.read = Traffic()
        self._line = line
        self._client = line.client
        self._meter = meter

    def open(
        self,
        record: ChunkRecord,
        deadline: Deadline | None = None,
        whole: Callable[[memoryview], None] | None = None,
    ) -> ChunkFile | None:
        """A chunk's file, header and ids verified; None when it is absent or could not be had in time.

        Args:
            deadline: of all reads to come. Unless given, they may take as long as one deadline in all, what
                passes between them not counted.
            whole: takes the file once all its bytes have come; those after its ids are not verified.

        Raises:
            CorruptChunk: it failed its checks, or its token ids are not `record`'s.
        """
        chunk_id = record.chunk_id
        if not is_id(chunk_id):
            return None
        now = deadline or Deadline(self._line.read_s)
        try:
            head = self._line.call(lambda: self._client.head(chunk_id), now, self.read)
            source = None if head is None else self._source(chunk_id, head, deadline)
            file = None if source is None else ChunkFile(source, chunk_id)
        except (UnreachableRemote, UnreachableError):
            return None
        except BadFileError as error:
            raise self.damaged(chunk_id, error) from error
        if file is not None and file.record != record:
            raise self.damaged(chunk_id, "its token ids are not those asked for")
        if source is not None and whole is not None:
            source.when_whole(whole)
        return file

    def records(self, chunk_ids: Sequence[str]) -> dict[str, ChunkRecord]:
        """What is stored under some ids; those absent or unreadable are left out."""
        ids = [chunk_id for chunk_id in chunk_ids if is_id(chunk_id)]
        seconds = self._line.read_s if len(ids) == 1 else self._line.write_s
        empty: list[bytes | None] = []
        heads = self._line.ask(lambda: self._client.heads(ids), empty, seconds) if ids else empty
        found = {}
        for chunk_id, head in zip(ids, heads, strict=False):
            try:
                if head is not None:
                    source = self._source(chunk_id, head, Deadline(seconds))
                    found[chunk_id] = ChunkFile(source, chunk_id).record
            except UnreachableError:
                continue
            except BadFileError as error:
                self.damaged(chunk_id, error)
        return found

    def look(self, chunk_id: str) -> ChunkFile | None:
        """A chunk's file, whatever it holds: nothing is dropped. It may take as long as a write.

        Raises:
            BadFileError: it failed a check.
            StoreError: the server cannot be reached.
        """
        head = self._line.write(lambda: self._client.head(chunk_id))
        if head is None:
            return None
        return ChunkFile(self._source(chunk_id, head, Deadline(self._line.write_s)), chunk_id)

    def copy(self, chunk_id: str) -> memoryview | None:
        """A chunk's file as it was written, every byte verified, or None when it is absent or cannot be had.

        It may take as long as a write.

        Raises:
            CorruptChunk: it failed its checks.
        """
        try:
            head = self._line.write(lambda: self._client.head(chunk_id), self.read)
            if head is None:
                return None
            source = self._source(chunk_id, head, Deadline(self._line.write_s))
            data = source.read(0, source.num_bytes)
            ChunkFile(HeldBytes(data), chunk_id).check()
        except (UnreachableRemote, UnreachableError):
            return None
        except BadFileError as error:
            raise self.damaged(chunk_id, error) from error
        self.read.chunks += 1
        return data

    def damaged(self, chunk_id: str, reason: BadFileError | str) -> CorruptChunk:
        """Drop a chunk that failed a check; returns what is to be raised."""
        if isinstance(reason, UnreachableError):
            return CorruptChunk(f"chunk {chunk_id} cannot be read: {reason}")
        self._meter.found_corrupt()
        logger.warning("dropped chunk %s of remote %s: %s", chunk_id, self._line.name, reason)
        self._line.ask(lambda: self._client.drop(chunk_id), None)
        return CorruptChunk(f"stored chunk {chunk_id} is damaged: {reason}; compute it again")

    def _source(self, chunk_id: str, head: bytes, deadline: Deadline | None) -> RemoteBytes:
        allowance = Allowance(self._line.read_s)

        def fetch(layout: Layout, spans: Sequence[Span], into: memoryview) -> bool:
            try:
                parts = partial(self._client.fetch, chunk_id, layout, spans)
                with allowance.spending() as left:
                    by = deadline or left
                    is_whole = self._line.call(lambda: _join(parts(), spans, into), by, self.read)
            except UnreachableRemote as error:
                raise UnreachableError(str(error)) from error
            self._line.breaker.succeeded()
            self.read.num_bytes += len(into)
            return is_whole

        self.read.num_bytes += len(head)
        return RemoteBytes(head, fetch)


def _join(parts: Iterable[bytes | memoryview | None], spans: Sequence[Span], into: memoryview) -> bool:
    """Write parts one after another; False when one is missing or not of its span's size."""
    place = 0
    for part, span in zip(parts, spans, strict=True):
        size = span.stop - span.start
        if part is None or len(part) != size:
            return False
        into[place : place + size] = part
        place += size
        del part  # before the next one is asked for
    return True
