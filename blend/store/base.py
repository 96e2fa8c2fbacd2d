"""The contract of a chunk store: what every tier does."""

from collections.abc import Iterator
from typing import Protocol

from blend.chunks.chunk import ChunkKV, ChunkRecord
from blend.store.handle import ChunkHandle


class ChunkStore(Protocol):
    """Where chunk KV lives, for one model (its fingerprint is part of every chunk id).

    Called from any process and any thread; several processes and machines may share one place. A chunk
    never changes under its id, so a second `put` of the same id is harmless and may be a no-op. A store
    with a byte budget evicts what was used least recently, pinned chunks only when no others are left.
    """

    def put(self, chunk: ChunkKV) -> None:
        """Store a chunk; when this returns it is found, whole, also after a crash.

        Raises:
            StoreFull: no space left, or the chunk alone is over the budget. Nothing that was stored is
                lost, but for what the budget has evicted.
            StoreError: the place cannot be written to, or the chunk cannot be stored.
        """

    def get(self, record: ChunkRecord) -> ChunkKV | None:
        """The stored chunk, every byte verified, or None when it is absent.

        The tensors are valid as long as they are referenced and must not be written to.

        Raises:
            CorruptChunk: it failed its checks, or its token ids are not `record`'s. The entry has
                been dropped (it stays only where it could not even be opened): the caller computes the
                chunk again.
        """

    def open(self, record: ChunkRecord) -> ChunkHandle | None:
        """The same layer by layer: token ids are compared now, each layer is verified when it is read.

        Raises:
            CorruptChunk: as `get`.
        """

    def record(self, chunk_id: str) -> ChunkRecord | None:
        """What is stored under an id, without reading its tensors; None when absent or unreadable."""

    def __contains__(self, chunk_id: object) -> bool: ...

    def ids(self) -> Iterator[str]:
        """Ids of all stored chunks, in no order."""

    def generation(self) -> int:
        """A number that differs when chunks may have been added or removed since it was last asked."""

    def touch(self, chunk_id: str) -> None:
        """Note that a chunk was used, for a tier in front that had it; `get` and `open` do so themselves."""

    def pin(self, chunk_id: str) -> None:
        """Evict this id after all others. A pin outlives eviction and damage, and goes with `delete`.

        Raises:
            StoreError: the place cannot be written to.
        """

    def unpin(self, chunk_id: str) -> None:
        """Take a pin off; a no-op when there is none.

        Raises:
            StoreError: the place cannot be written to.
        """

    def is_pinned(self, chunk_id: str) -> bool: ...

    def delete(self, chunk_id: str) -> None:
        """Remove a chunk and its pin; a no-op when it is absent."""
