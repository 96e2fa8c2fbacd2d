"""Vector stores: each is a managed collection, named by its id, and each of its files a document."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

from api.server.collections.library import Library
from api.server.errors import FieldError
from api.server.files.file_store import FileStore
from api.server.files.records import new_id
from api.server.ingest.ingest import Ingest
from api.server.vector_stores.bodies import AddFile, CreateStore, UpdateStore, chunk_tokens_of
from api.server.vector_stores.kept import BatchRecord, Kept, StoreRecord
from api.server.vector_stores.members import Members
from retriever.errors import UnknownCollection

USE_EVERY_S = 60
"""Minimum seconds between two writes of the time of the last use."""


class VectorStores:
    """The vector stores of a server. Its methods belong to the event loop; the disk is left to threads.

    Args:
        files: the uploaded files.
        ingest: updates the collections.
        library: searches the collections.

    Attributes:
        members: the files in the stores.
    """

    def __init__(self, files: FileStore, ingest: Ingest, library: Library) -> None:
        self.files = files
        self._kept = Kept(library.store)
        self._ingest = ingest
        self.library = library
        self.members = Members(self._kept, files, ingest, library)

    async def create(self, namespace: str, asked: CreateStore) -> StoreRecord:
        """Create a vector store; the ingestion of its files is queued when this returns.

        Raises:
            FieldError: no such file, or the chunks are to overlap.
        """
        chunk_tokens = chunk_tokens_of(asked.chunking_strategy)
        new = await self.members.uploaded(namespace, [AddFile(file_id=key) for key in asked.file_ids])
        key, now = new_id("vs_"), time.time()
        await self._ingest.create(key, chunk_tokens=chunk_tokens)
        made = await asyncio.to_thread(self.library.retriever, key)
        record = StoreRecord(
            id=key,
            namespace=namespace,
            created_s=now,
            name=asked.name or "",
            description=asked.description,
            metadata=asked.metadata or {},
            chunk_tokens=made.collection.settings.chunk_tokens,
            expires_days=asked.expires_after.days if asked.expires_after else None,
            used_s=now,
        )
        await asyncio.to_thread(self._kept.stores.put, record)
        await self.members.add(record, new)
        return record

    async def get(self, store_id: str, namespace: str) -> StoreRecord:
        """A vector store's record.

        Raises:
            NotThere: no vector store of that id in the namespace.
        """
        return await asyncio.to_thread(self._kept.store, store_id, namespace)

    async def all(self, namespace: str) -> list[StoreRecord]:
        """Vector stores of a namespace, the oldest first."""
        records = await asyncio.to_thread(self._kept.stores.all)
        return [record for record in records if record.namespace == namespace]

    async def update(self, record: StoreRecord, asked: UpdateStore) -> StoreRecord:
        """Change the given fields."""
        given = asked.model_fields_set
        changes: dict[str, object] = {}
        if "name" in given:
            changes["name"] = asked.name or ""
        if "metadata" in given:
            changes["metadata"] = asked.metadata or {}
        if "expires_after" in given:
            changes["expires_days"] = asked.expires_after.days if asked.expires_after else None
        changed = record.model_copy(update={**changes, "used_s": time.time()})
        await asyncio.to_thread(self._kept.stores.put, changed)
        return changed

    async def remove(self, record: StoreRecord) -> None:
        """Delete a vector store; the files in it stay uploaded."""
        with suppress(UnknownCollection):  # it was deleted as a collection, or by an interrupted deletion
            await self._ingest.remove(record.id)
        await asyncio.to_thread(self._kept.remove, record.id)

    async def used(self, record: StoreRecord) -> None:
        """Record the use of a vector store.

        Raises:
            FieldError: it has expired.
        """
        if is_over(record):
            raise FieldError(
                f"vector store {record.id} has expired, after {record.expires_days} days without use: create "
                "a new one of the same files",
                "vector_store_ids",
            )
        now = time.time()
        if now - record.used_s > USE_EVERY_S:
            changed = record.model_copy(update={"used_s": now})
            await asyncio.to_thread(self._kept.stores.replace, record, changed)

    async def add(self, record: StoreRecord, asked: Sequence[AddFile]) -> None:
        """Add uploaded files to a vector store; their ingestion is queued when this returns.

        Raises:
            FieldError: no such file, or a chunk size other than the store's.
        """
        for one in asked:
            self._check_chunks(record, one)
        await self.used(record)
        await self.members.add(record, await self.members.uploaded(record.namespace, asked))

    async def add_batch(self, record: StoreRecord, asked: Sequence[AddFile]) -> BatchRecord:
        """Add uploaded files as one batch."""
        for one in asked:
            self._check_chunks(record, one)
        await self.used(record)
        return await self.members.add_batch(record, await self.members.uploaded(record.namespace, asked))

    def _check_chunks(self, record: StoreRecord, asked: AddFile) -> None:
        wanted, there = chunk_tokens_of(asked.chunking_strategy), record.chunk_tokens
        if wanted is not None and wanted != there:
            field = "chunking_strategy.static.max_chunk_size_tokens"
            raise FieldError(
                f"{field}: got {wanted}, expected {there}, the chunk size of this vector store; set the size "
                "when you create a store",
                field,
            )


def is_over(record: StoreRecord) -> bool:
    """Whether a vector store has expired."""
    return record.expires_s is not None and time.time() >= record.expires_s
