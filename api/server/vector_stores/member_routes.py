"""The routes of files in vector stores, and of batches of them."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request

from api.server.paging import Direction, Listing, Wanted, listing, page
from api.server.surface.request import namespace_of
from api.server.vector_stores.bodies import AddBatch, AddFile, UpdateFile
from api.server.vector_stores.kept import BatchRecord, MemberRecord, Status, StoreRecord
from api.server.vector_stores.objects import (
    FileContent,
    MemberDeleted,
    TextContent,
    VectorStoreFile,
    VectorStoreFileBatch,
    batch_object,
    count,
    member_object,
)
from api.server.vector_stores.stores import VectorStores

Limit = Annotated[int, Query(ge=1, le=100)]


def member_router(stores: VectorStores) -> APIRouter:
    """The routes over the files of a server's vector stores."""
    router = APIRouter(prefix="/v1/vector_stores/{vector_store_id}/files", tags=["vector stores"])
    _add_members(router, stores)
    _add_member(router, stores)
    return router


def _listed(
    store: StoreRecord, members: Sequence[MemberRecord], status: Status | None, wanted: Wanted
) -> Listing[VectorStoreFile]:
    """A page of the files that have a status, or of all of them."""
    found = page([member for member in members if status in (None, member.status)], wanted)
    return listing(found, [member_object(store, member) for member in found.items])


def _add_members(router: APIRouter, stores: VectorStores) -> None:
    members = stores.members

    @router.post("")
    async def create_vector_store_file(
        vector_store_id: str, asked: AddFile, request: Request
    ) -> VectorStoreFile:
        """Add an uploaded file to a vector store."""
        record = await stores.get(vector_store_id, namespace_of(request))
        await stores.add(record, [asked])
        return member_object(record, await members.get(record, asked.file_id))

    @router.get("")
    async def list_vector_store_files(
        vector_store_id: str,
        request: Request,
        filter: Status | None = None,
        limit: Limit = 20,
        order: Direction = "desc",
        after: str | None = None,
        before: str | None = None,
    ) -> Listing[VectorStoreFile]:
        """The files of a vector store."""
        record = await stores.get(vector_store_id, namespace_of(request))
        return _listed(record, await members.all(record), filter, Wanted(limit, order, after, before))


def _add_member(router: APIRouter, stores: VectorStores) -> None:
    members = stores.members

    @router.get("/{file_id}")
    async def retrieve_vector_store_file(
        vector_store_id: str, file_id: str, request: Request
    ) -> VectorStoreFile:
        """One file of a vector store."""
        record = await stores.get(vector_store_id, namespace_of(request))
        return member_object(record, await members.get(record, file_id))

    @router.post("/{file_id}")
    async def update_vector_store_file(
        vector_store_id: str, file_id: str, asked: UpdateFile, request: Request
    ) -> VectorStoreFile:
        """Replace a file's attributes."""
        record = await stores.get(vector_store_id, namespace_of(request))
        member = await members.get(record, file_id)
        return member_object(record, await members.describe(record, member, asked.attributes or {}))

    @router.get("/{file_id}/content")
    async def retrieve_vector_store_file_content(
        vector_store_id: str, file_id: str, request: Request
    ) -> FileContent:
        """A file's text in chunks, as it is searched."""
        record = await stores.get(vector_store_id, namespace_of(request))
        member = await members.get(record, file_id)
        texts = await asyncio.to_thread(members.texts, record, member)
        return FileContent(data=[TextContent(text=text) for text in texts])

    @router.delete("/{file_id}")
    async def delete_vector_store_file(vector_store_id: str, file_id: str, request: Request) -> MemberDeleted:
        """Remove a file from a vector store; it stays uploaded."""
        record = await stores.get(vector_store_id, namespace_of(request))
        await members.take_out(record, await members.get(record, file_id))
        return MemberDeleted(id=file_id)


def batch_router(stores: VectorStores) -> APIRouter:
    """The routes over batches of files of a server's vector stores."""
    router = APIRouter(prefix="/v1/vector_stores/{vector_store_id}/file_batches", tags=["vector stores"])
    _add_batches(router, stores)
    _add_batch_files(router, stores)
    return router


async def _of_batch(
    stores: VectorStores, record: StoreRecord, batch: BatchRecord
) -> list[MemberRecord | None]:
    there = {member.id: member for member in await stores.members.all(record)}
    return [there.get(key) for key in batch.file_ids]


async def _seen(stores: VectorStores, record: StoreRecord, batch: BatchRecord) -> VectorStoreFileBatch:
    return batch_object(record.id, batch, count(await _of_batch(stores, record, batch)))


def _add_batches(router: APIRouter, stores: VectorStores) -> None:
    @router.post("")
    async def create_file_batch(
        vector_store_id: str, asked: AddBatch, request: Request
    ) -> VectorStoreFileBatch:
        """Add uploaded files to a vector store together."""
        record = await stores.get(vector_store_id, namespace_of(request))
        return await _seen(stores, record, await stores.add_batch(record, asked.each()))

    @router.get("/{batch_id}")
    async def retrieve_file_batch(
        vector_store_id: str, batch_id: str, request: Request
    ) -> VectorStoreFileBatch:
        """One batch."""
        record = await stores.get(vector_store_id, namespace_of(request))
        return await _seen(stores, record, await stores.members.batch(record, batch_id))

    @router.post("/{batch_id}/cancel")
    async def cancel_file_batch(
        vector_store_id: str, batch_id: str, request: Request
    ) -> VectorStoreFileBatch:
        """Cancel the files of a batch that are still in progress."""
        record = await stores.get(vector_store_id, namespace_of(request))
        batch = await stores.members.batch(record, batch_id)
        return await _seen(stores, record, await stores.members.cancel(record, batch))


def _add_batch_files(router: APIRouter, stores: VectorStores) -> None:
    @router.get("/{batch_id}/files")
    async def list_file_batch_files(
        vector_store_id: str,
        batch_id: str,
        request: Request,
        filter: Status | None = None,
        limit: Limit = 20,
        order: Direction = "desc",
        after: str | None = None,
        before: str | None = None,
    ) -> Listing[VectorStoreFile]:
        """The files of a batch."""
        record = await stores.get(vector_store_id, namespace_of(request))
        batch = await stores.members.batch(record, batch_id)
        there = [member for member in await _of_batch(stores, record, batch) if member is not None]
        return _listed(record, there, filter, Wanted(limit, order, after, before))
