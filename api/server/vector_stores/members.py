"""The files of vector stores: added, listed, updated and removed."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from api.server.collections.library import Library
from api.server.errors import FieldError, NotThere, UnknownDocument, UnknownJob
from api.server.files.file_store import FileRecord, FileStore
from api.server.files.names import document_path
from api.server.files.records import new_id
from api.server.ingest.folders import Upload
from api.server.ingest.ingest import Ingest
from api.server.ingest.jobs import DocumentStatus
from api.server.vector_stores.bodies import AddFile, Attributes
from api.server.vector_stores.kept import BatchRecord, Kept, MemberRecord, StoreRecord
from api.server.vector_stores.search import metadata_of
from retriever.errors import UnknownCollection

MAX_JOB_BYTES = 64 << 20
"""Maximum bytes of files in one ingestion job, which bounds the memory of a batch."""


@dataclass(frozen=True, slots=True)
class NewMember:
    """An uploaded file to add to a vector store."""

    file: FileRecord
    attributes: Attributes


class Members:
    """The files of all vector stores. Its methods belong to the event loop; the disk is left to threads."""

    def __init__(self, kept: Kept, files: FileStore, ingest: Ingest, library: Library) -> None:
        self._kept = kept
        self._files = files
        self._ingest = ingest
        self._library = library

    async def uploaded(self, namespace: str, asked: Sequence[AddFile]) -> list[NewMember]:
        """The uploaded files of a request, each once.

        Raises:
            FieldError: no such file.
        """
        new: dict[str, NewMember] = {}
        for one in asked:
            try:
                file = await asyncio.to_thread(self._files.get, one.file_id, namespace)
            except NotThere as error:
                raise FieldError(f"file_id: {error}", "file_id") from None
            new[file.id] = NewMember(file, one.attributes or {})
        return list(new.values())

    async def add(self, record: StoreRecord, new: Sequence[NewMember]) -> None:
        """Add uploaded files to a vector store; their ingestion is queued when this returns."""
        for some in _jobs(new):
            uploads = await asyncio.to_thread(self._uploads, some)
            job = await self._ingest.put_many(record.id, uploads)
            for one, upload in zip(some, uploads, strict=True):
                member = MemberRecord(
                    id=one.file.id,
                    namespace=record.namespace,
                    filename=one.file.filename,
                    path=upload.path,
                    num_bytes=one.file.num_bytes,
                    attributes=one.attributes,
                    job=job,
                )
                await asyncio.to_thread(self._kept.members(record.id).put, member)

    async def add_batch(self, record: StoreRecord, new: Sequence[NewMember]) -> BatchRecord:
        """Add uploaded files as one batch."""
        await self.add(record, new)
        ids = tuple(one.file.id for one in new)
        batch = BatchRecord(id=new_id("vsfb_"), namespace=record.namespace, file_ids=ids)
        await asyncio.to_thread(self._kept.batches(record.id).put, batch)
        return batch

    async def batch(self, record: StoreRecord, batch_id: str) -> BatchRecord:
        """A batch.

        Raises:
            NotThere: the store has no batch of that id.
        """
        batch = await asyncio.to_thread(self._kept.batches(record.id).get, batch_id)
        if batch is None:
            raise NotThere(f"no batch {batch_id[:80]!r} in vector store {record.id}")
        return batch

    async def cancel(self, record: StoreRecord, batch: BatchRecord) -> BatchRecord:
        """Cancel the files of a batch that are still in progress."""
        for member in await self.all(record):
            if member.id in batch.file_ids and member.status == "in_progress":
                stopped = member.model_copy(update={"status": "cancelled"})
                if await asyncio.to_thread(self._kept.members(record.id).replace, member, stopped):
                    await self._drop(record.id, member)
        cancelled = batch.model_copy(update={"cancelled": True})
        await asyncio.to_thread(self._kept.batches(record.id).put, cancelled)
        return cancelled

    async def all(self, record: StoreRecord) -> list[MemberRecord]:
        """Files of a vector store with their current status, the oldest first."""
        members = await asyncio.to_thread(self._kept.members(record.id).all)
        return [await self._settled(record.id, member) for member in members]

    async def findable(self, record: StoreRecord) -> dict[str, MemberRecord]:
        """The files of a vector store that a search may return, by their ids."""
        return {one.id: one for one in await self.all(record) if one.status != "cancelled"}

    async def get(self, record: StoreRecord, file_id: str) -> MemberRecord:
        """A file of a vector store with its current status.

        Raises:
            NotThere: the store does not hold the file.
        """
        member = await asyncio.to_thread(self._kept.members(record.id).get, file_id)
        if member is None:
            raise NotThere(f"no file {file_id[:80]!r} in vector store {record.id}")
        return await self._settled(record.id, member)

    async def describe(self, record: StoreRecord, member: MemberRecord, said: Attributes) -> MemberRecord:
        """Replace a file's attributes.

        Raises:
            NotThere: the file was deleted.
        """
        file = await asyncio.to_thread(self._files.get, member.id, record.namespace)
        upload = await asyncio.to_thread(self._upload, NewMember(file, said))
        job = await self._ingest.put_many(record.id, [upload])
        now = await self.get(record, member.id)  # it may have been removed meanwhile
        changed = now.model_copy(update={"attributes": said, "job": job})
        await asyncio.to_thread(self._kept.members(record.id).put, changed)
        return changed

    async def take_out(self, record: StoreRecord, member: MemberRecord) -> None:
        """Remove a file from a vector store: later searches do not find it."""
        await asyncio.to_thread(self._kept.members(record.id).remove, member.id)
        await self._drop(record.id, member)

    async def forget(self, file: FileRecord) -> None:
        """Remove a file from every vector store of its namespace."""
        for record in await asyncio.to_thread(self._kept.stores.all):
            member = await asyncio.to_thread(self._kept.members(record.id).get, file.id)
            if member is not None and record.namespace == file.namespace:
                await self.take_out(record, member)

    def texts(self, record: StoreRecord, member: MemberRecord) -> list[str]:
        """The chunks of a file in its order; none before its ingestion."""
        collection = self._library.retriever(record.id).collection
        entry = collection.documents.get(member.path)
        ids = entry.chunk_ids if entry else ()
        return [collection.chunks[collection.rows[key]].text for key in ids]

    def _uploads(self, new: Sequence[NewMember]) -> list[Upload]:
        return [self._upload(one) for one in new]

    def _upload(self, new: NewMember) -> Upload:
        path = document_path(new.file.id, new.file.filename)
        return Upload(path, self._files.read(new.file), metadata_of(new.attributes))

    async def _settled(self, store_id: str, member: MemberRecord) -> MemberRecord:
        """A file's record, updated from its ingestion job."""
        if member.status != "in_progress":
            return member
        settled = member.model_copy(update=await self._outcome(store_id, member))
        if settled != member:
            await asyncio.to_thread(self._kept.members(store_id).replace, member, settled)
        return settled

    async def _outcome(self, store_id: str, member: MemberRecord) -> Mapping[str, object]:
        try:
            job = self._ingest.job(member.job)
        except UnknownJob:  # the job ended long ago, or with its server: the published collection tells
            made = await asyncio.to_thread(self._library.retriever, store_id)
            if member.path in made.collection.documents:
                return {"status": "completed"}
            return {"status": "failed", "error": "it was not ingested: add it to the vector store again"}
        if job.error is not None:
            return {"status": "failed", "error": job.error}
        status, error = job.documents[member.path], job.errors.get(member.path)
        return {"status": status.value, "error": error, "is_readable": status is not DocumentStatus.FAILED}

    async def _drop(self, store_id: str, member: MemberRecord) -> None:
        try:
            await self._ingest.drop(store_id, member.path)
        except (UnknownCollection, UnknownDocument):
            return  # it was removed before


def _jobs(new: Sequence[NewMember]) -> list[list[NewMember]]:
    """Files in groups of at most about the bytes of a job."""
    groups: list[list[NewMember]] = []
    held = MAX_JOB_BYTES
    for one in new:
        if held + one.file.num_bytes > MAX_JOB_BYTES:
            groups.append([])
            held = 0
        groups[-1].append(one)
        held += one.file.num_bytes
    return groups
