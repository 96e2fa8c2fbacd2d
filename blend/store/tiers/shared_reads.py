"""What requests of a namespace read: its own chunks, and those that are everybody's."""

from typing import Protocol

from blend.chunks.chunk import ChunkKV, ChunkRecord, chunk_id
from blend.store.handle import ChunkHandle


class ChunkSource(Protocol):
    """Where the chunks of a blend are read from; every `blend.store.base.ChunkStore` is one."""

    def get(self, record: ChunkRecord) -> ChunkKV | None:
        """As `blend.store.base.ChunkStore.get`."""

    def open(self, record: ChunkRecord) -> ChunkHandle | None:
        """As `blend.store.base.ChunkStore.open`."""


class SharedReads:
    """A namespace's own store beside the common one. A chunk's key says where it lies: only that is asked.

    Args:
        own: of the namespace.
        common: of no namespace.
        scope: what the keys in `own` are made of, see `blend.chunks.namespace.scoped`.
    """

    def __init__(self, own: ChunkSource, common: ChunkSource, scope: str) -> None:
        self._own = own
        self._common = common
        self._scope = scope

    def get(self, record: ChunkRecord) -> ChunkKV | None:
        """The stored chunk, or None when it is absent where it belongs.

        Raises:
            CorruptChunk: as `blend.store.base.ChunkStore.get`.
        """
        return self._where(record).get(record)

    def open(self, record: ChunkRecord) -> ChunkHandle | None:
        """The same layer by layer.

        Raises:
            CorruptChunk: as `get`.
        """
        return self._where(record).open(record)

    def _where(self, record: ChunkRecord) -> ChunkSource:
        own_id = chunk_id(self._scope, record.prefix_ids, record.token_ids, record.position_gap)
        return self._own if own_id == record.chunk_id else self._common
