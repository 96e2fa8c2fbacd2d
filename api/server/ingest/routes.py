"""Routes that create, change and delete managed collections."""

import json
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sse_starlette import EventSourceResponse, ServerSentEvent

from api.server.errors import FieldError, TooLarge, UnknownJob
from api.server.ingest.ingest import Ingest
from api.server.ingest.jobs import JobState
from retriever.filters import Metadata

EVENT_STREAM = "text/event-stream"


class NewCollection(BaseModel):
    """A new collection.

    Attributes:
        name: letters, digits, '.', '_' and '-', the first a letter or a digit, at most 100.
        prefix: text before the first chunk in every prompt; a plain instruction by default.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    prefix: str | None = Field(default=None, max_length=20_000)


class CreatedCollection(BaseModel):
    """A created collection; it is empty."""

    object: Literal["collection"] = "collection"
    name: str


class DeletedCollection(BaseModel):
    """A deleted collection."""

    object: Literal["collection.deleted"] = "collection.deleted"
    name: str
    deleted: bool = True


class JobList(BaseModel):
    """A collection's jobs, the newest first."""

    object: Literal["list"] = "list"
    data: list[JobState]


def ingest_router(ingest: Ingest) -> APIRouter:
    """Routes that change managed collections and report the progress of their jobs."""
    router = APIRouter(prefix="/v1/collections", tags=["collections"])
    _add_collections(router, ingest)
    _add_documents(router, ingest)
    _add_jobs(router, ingest)
    return router


def _add_collections(router: APIRouter, ingest: Ingest) -> None:
    @router.post("", status_code=HTTPStatus.CREATED)
    async def create_collection(body: NewCollection) -> CreatedCollection:
        """Create an empty collection, whose documents are put and deleted over HTTP."""
        await ingest.create(body.name, prefix=body.prefix)
        return CreatedCollection(name=body.name)

    @router.delete("/{name}")
    async def delete_collection(name: str) -> DeletedCollection:
        """Delete a collection with its documents; no answer holds them when this returns."""
        await ingest.remove(name)
        return DeletedCollection(name=name)


def _add_documents(router: APIRouter, ingest: Ingest) -> None:
    body = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}

    @router.put(
        "/{name}/documents/{path:path}",
        status_code=HTTPStatus.ACCEPTED,
        openapi_extra={"requestBody": {"required": True, **body}},
    )
    async def put_document(
        name: str,
        path: str,
        request: Request,
        metadata: Annotated[str, Query(description="One flat JSON object, for filters.")] = "{}",
    ) -> JobState:
        """Upsert a document: the body is the file, and the suffix of its path selects the reader."""
        described = _metadata(metadata)
        data = await _body(request, ingest.settings.max_document_bytes)
        return ingest.job(await ingest.put(name, path, data, described))

    @router.delete(
        "/{name}/documents/{path:path}",
        status_code=HTTPStatus.ACCEPTED,
    )
    async def delete_document(name: str, path: str) -> JobState:
        """Delete a document; no answer holds it once the job has completed."""
        return ingest.job(await ingest.drop(name, path))


def _add_jobs(router: APIRouter, ingest: Ingest) -> None:
    @router.get("/{name}/jobs")
    async def list_jobs(name: str) -> JobList:
        """Unfinished jobs, and the last finished ones."""
        return JobList(data=ingest.jobs(name))

    @router.get(
        "/{name}/jobs/{job_id}",
        response_model=JobState,
        responses={
            200: {"content": {EVENT_STREAM: {"schema": {"type": "string"}}}, "model": JobState},
        },
    )
    async def retrieve_job(
        name: str, job_id: str, accept: Annotated[str | None, Header()] = None
    ) -> Response:
        """A job; with `Accept: text/event-stream` a stream of its states, until it ends."""
        state = ingest.job(job_id)
        if state.collection != name:
            raise UnknownJob(f"no job {job_id[:80]!r} of collection {name!r}")
        if EVENT_STREAM in (accept or ""):
            return EventSourceResponse(_events(ingest.updates(job_id)))
        return JSONResponse(state.model_dump(mode="json"))


async def _events(states: AsyncIterator[JobState]) -> AsyncIterator[ServerSentEvent]:
    async for state in states:
        yield ServerSentEvent(state.model_dump_json(), event=f"job.{state.status}")


def _metadata(given: str) -> Metadata:
    try:
        parsed = json.loads(given, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise FieldError(f"metadata: expected one JSON object: {error}", "metadata") from None
    if not isinstance(parsed, dict):
        raise FieldError(f"metadata: got {type(parsed).__name__}, expected one JSON object", "metadata")
    return parsed


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number in JSON")


async def _body(request: Request, max_bytes: int) -> bytes:
    """Read the body; refused as soon as it is too long."""
    parts, num_bytes = [], 0
    async for part in request.stream():
        num_bytes += len(part)
        if num_bytes > max_bytes:
            raise TooLarge(f"got a document of over {max_bytes:,} bytes, expected no more; split it")
        parts.append(part)
    return b"".join(parts)
