"""The naive twin of every tier: a dictionary. For tests, notebooks and ablations."""

from collections.abc import Iterator
from threading import Lock

from blend.chunks.chunk import ChunkKV, ChunkRecord
from blend.errors import CorruptChunk
from blend.store.handle import ChunkHandle


class MemoryStore:
    """Chunk KV in this process; implements `blend.store.base.ChunkStore`. Unbounded."""

    def __init__(self) -> None:
        self._chunks: dict[str, ChunkKV] = {}
        self._pinned: set[str] = set()
        self._generation = 0
        self._lock = Lock()

    def put(self, chunk: ChunkKV) -> None:
        """Store a chunk; its tensors are kept, not copied."""
        with self._lock:
            self._chunks[chunk.record.chunk_id] = chunk
            self._generation += 1

    def get(self, record: ChunkRecord) -> ChunkKV | None:
        """The stored chunk, or None when it is absent.

        Raises:
            CorruptChunk: its token ids are not `record`'s. The entry has been dropped.
        """
        chunk = self._chunks.get(record.chunk_id)
        if chunk is not None and chunk.record != record:
            self._drop(record.chunk_id)
            raise CorruptChunk(f"stored chunk {record.chunk_id} holds other tokens; compute it again")
        return chunk

    def open(self, record: ChunkRecord) -> ChunkHandle | None:
        """The same layer by layer.

        Raises:
            CorruptChunk: as `get`.
        """
        chunk = self.get(record)
        return None if chunk is None else ChunkHandle(chunk)

    def record(self, chunk_id: str) -> ChunkRecord | None:
        """What is stored under an id; None when absent."""
        chunk = self._chunks.get(chunk_id)
        return None if chunk is None else chunk.record

    def __contains__(self, chunk_id: object) -> bool:
        return chunk_id in self._chunks

    def ids(self) -> Iterator[str]:
        """Ids of all stored chunks, in no order."""
        return iter(tuple(self._chunks))

    def generation(self) -> int:
        """A number that differs when chunks were added or removed since it was last asked."""
        return self._generation

    def touch(self, chunk_id: str) -> None:
        """Nothing: what is unbounded needs no last uses."""

    def pin(self, chunk_id: str) -> None:
        """Keep a pin; nothing is evicted here with or without it."""
        self._pinned.add(chunk_id)

    def unpin(self, chunk_id: str) -> None:
        """Take a pin off; a no-op when there is none."""
        self._pinned.discard(chunk_id)

    def is_pinned(self, chunk_id: str) -> bool:
        return chunk_id in self._pinned

    def delete(self, chunk_id: str) -> None:
        """Remove a chunk and its pin; a no-op when it is absent."""
        self.unpin(chunk_id)
        self._drop(chunk_id)

    def _drop(self, chunk_id: str) -> None:
        with self._lock:
            self._chunks.pop(chunk_id, None)
            self._generation += 1
