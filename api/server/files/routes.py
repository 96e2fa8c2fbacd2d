"""The routes under `/v1/files`."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from api.server.files.file_store import FileRecord, FileStore
from api.server.files.upload import FORM, Purpose, receive
from api.server.paging import Direction, Listing, Wanted, listing, page
from api.server.surface.request import namespace_of

MAX_LISTED = 10_000


class FileObject(BaseModel):
    """An uploaded file."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: Purpose
    status: Literal["processed"] = "processed"
    status_details: None = None


class FileDeleted(BaseModel):
    """A file that was deleted."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


Forget = Callable[[FileRecord], Awaitable[None]]
"""Removes a file from all vector stores, before it is deleted."""


def files_router(files: FileStore, forget: Forget) -> APIRouter:
    """The routes over a store's files."""
    router = APIRouter(prefix="/v1/files", tags=["files"])
    _add_all(router, files)
    _add_one(router, files, forget)
    return router


def _add_all(router: APIRouter, files: FileStore) -> None:
    @router.post("", openapi_extra=FORM)
    async def create_file(request: Request) -> FileObject:
        """Upload a file."""
        async with receive(request, files.settings) as upload:
            record = await asyncio.to_thread(
                files.add,
                upload.file,
                upload.filename,
                upload.fields.purpose,
                namespace_of(request),
                upload.fields.seconds,
            )
        return file_object(record)

    @router.get("")
    async def list_files(
        request: Request,
        purpose: str | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = MAX_LISTED,
        order: Direction = "desc",
        after: str | None = None,
    ) -> Listing[FileObject]:
        """The uploaded files, the newest first by default."""
        records = await asyncio.to_thread(files.all, namespace_of(request))
        wanted = [one for one in records if purpose is None or one.purpose == purpose]
        found = page(wanted, Wanted(limit, order, after))
        return listing(found, [file_object(record) for record in found.items])


def _add_one(router: APIRouter, files: FileStore, forget: Forget) -> None:
    @router.get("/{file_id}")
    async def retrieve_file(file_id: str, request: Request) -> FileObject:
        """One file."""
        return file_object(await asyncio.to_thread(files.get, file_id, namespace_of(request)))

    @router.get(
        "/{file_id}/content",
        response_class=Response,
        responses={
            200: {
                "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
            },
        },
    )
    async def retrieve_file_content(file_id: str, request: Request) -> Response:
        """The uploaded bytes of a file."""
        record = await asyncio.to_thread(files.get, file_id, namespace_of(request))
        data = await asyncio.to_thread(files.read, record)
        named = f"attachment; filename*=UTF-8''{quote(record.filename, safe='')}"
        return Response(
            data,
            media_type="application/octet-stream",
            headers={"Content-Disposition": named, "X-Content-Type-Options": "nosniff"},
        )

    @router.delete("/{file_id}")
    async def delete_file(file_id: str, request: Request) -> FileDeleted:
        """Delete a file, and remove it from every vector store."""
        record = await asyncio.to_thread(files.get, file_id, namespace_of(request))
        await forget(record)
        await asyncio.to_thread(files.remove, record)
        return FileDeleted(id=record.id)


def file_object(record: FileRecord) -> FileObject:
    """A file, as a client sees it."""
    return FileObject.model_validate(
        {
            "id": record.id,
            "bytes": record.num_bytes,
            "created_at": int(record.created_s),
            "expires_at": None if record.expires_s is None else int(record.expires_s),
            "filename": record.filename,
            "purpose": record.purpose,
        }
    )
