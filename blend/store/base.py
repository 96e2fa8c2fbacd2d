"""The contract of a chunk store."""

from collections.abc import Iterator
from typing import Protocol

from blend.chunk import ChunkKV, ChunkRecord


class ChunkStore(Protocol):
    """Where chunk KV lives, for one model (its fingerprint is part of every chunk id).

    Called from any process and any thread; several processes may share one place. A chunk never
    changes under its id, so a second `put` of the same id is harmless and may be a no-op.
    """

    def put(self, chunk: ChunkKV) -> None:
        """Store a chunk; when this returns it is found, whole, also after a crash.

        Raises:
            StoreFull: no space left. Nothing that was stored is lost.
            StoreError: the place cannot be written to.
        """

    def get(self, record: ChunkRecord) -> ChunkKV | None:
        """The stored chunk, or None when it is absent.

        The tensors are valid as long as they are referenced and must not be written to.

        Raises:
            CorruptChunk: it failed its checks, or its token ids are not `record`'s. The entry has
                been dropped (it stays only where it could not even be opened): the caller computes the
                chunk again.
        """

    def record(self, chunk_id: str) -> ChunkRecord | None:
        """What is stored under an id, without reading its tensors; None when absent or unreadable."""

    def __contains__(self, chunk_id: object) -> bool: ...

    def ids(self) -> Iterator[str]:
        """Ids of all stored chunks, in no order."""

    def generation(self) -> int:
        """A number that differs when chunks may have been added or removed since it was last asked."""

    def delete(self, chunk_id: str) -> None:
        """Remove a chunk; a no-op when it is absent."""
