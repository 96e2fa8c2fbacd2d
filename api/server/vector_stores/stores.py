"""Vector stores on managed collections: each is a collection of its own name, each file in it a document."""

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
"""How exactly the last use is known, in seconds: it is written to the disk."""


class VectorStores:
    """The vector stores of a server. Its methods belong to the event loop; the disk is left to threads.

    Args:
        files: what was uploaded.
        ingest: keeps the collections up to date.
        library: searches them.

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
        """Make a vector store; the files that it was asked for are on their way when this returns.

        Raises:
            FieldError: there is no such file, or the chunks are to overlap.
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
            NotThere: there is none of that id, or it is somebody else's.
        """
        return await asyncio.to_thread(self._kept.store, store_id, namespace)

    async def all(self, namespace: str) -> list[StoreRecord]:
        """Vector stores of a namespace, the oldest first."""
        records = await asyncio.to_thread(self._kept.stores.all)
        return [record for record in records if record.namespace == namespace]

    async def update(self, record: StoreRecord, asked: UpdateStore) -> StoreRecord:
        """Change what is named, and only that."""
        said = asked.model_fields_set
        changes: dict[str, object] = {}
        if "name" in said:
            changes["name"] = asked.name or ""
        if "metadata" in said:
            changes["metadata"] = asked.metadata or {}
        if "expires_after" in said:
            changes["expires_days"] = asked.expires_after.days if asked.expires_after else None
        changed = record.model_copy(update={**changes, "used_s": time.time()})
        await asyncio.to_thread(self._kept.stores.put, changed)
        return changed

    async def remove(self, record: StoreRecord) -> None:
        """Delete a vector store; the files in it stay uploaded."""
        with suppress(UnknownCollection):  # it was removed as a collection, or by a try that was stopped
            await self._ingest.remove(record.id)
        await asyncio.to_thread(self._kept.remove, record.id)

    async def used(self, record: StoreRecord) -> None:
        """Note that a vector store is used.

        Raises:
            FieldError: it has expired.
        """
        if is_over(record):
            raise FieldError(
                f"vector store {record.id} has expired, after {record.expires_days} days without use: make a "
                "new one of the same files",
                "vector_store_ids",
            )
        now = time.time()
        if now - record.used_s > USE_EVERY_S:
            changed = record.model_copy(update={"used_s": now})
            await asyncio.to_thread(self._kept.stores.replace, record, changed)

    async def add(self, record: StoreRecord, asked: Sequence[AddFile]) -> None:
        """Put uploaded files into a vector store; they are on their way when this returns.

        Raises:
            FieldError: there is no such file, or its chunks are to be of another size than the store's.
        """
        for one in asked:
            self._check_chunks(record, one)
        await self.used(record)
        await self.members.add(record, await self.members.uploaded(record.namespace, asked))

    async def add_batch(self, record: StoreRecord, asked: Sequence[AddFile]) -> BatchRecord:
        """The same, remembered as one batch."""
        for one in asked:
            self._check_chunks(record, one)
        await self.used(record)
        return await self.members.add_batch(record, await self.members.uploaded(record.namespace, asked))

    def _check_chunks(self, record: StoreRecord, asked: AddFile) -> None:
        wanted, there = chunk_tokens_of(asked.chunking_strategy), record.chunk_tokens
        if wanted is not None and wanted != there:
            field = "chunking_strategy.static.max_chunk_size_tokens"
            raise FieldError(
                f"{field}: got {wanted}, expected {there}, this vector store's: all its files are cut alike; "
                "name the size when you create a store",
                field,
            )


def is_over(record: StoreRecord) -> bool:
    """Whether a vector store has expired."""
    return record.expires_s is not None and time.time() >= record.expires_s
