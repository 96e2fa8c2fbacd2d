"""Vector stores, their files and batches in the shape of OpenAI's API."""

from collections import Counter
from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel

from api.server.vector_stores.bodies import ExpiresAfter, StaticChunking, StaticSizes
from api.server.vector_stores.kept import STATUSES, Attributes, BatchRecord, MemberRecord, Status, StoreRecord
from api.server.vector_stores.search import StoreHit

ErrorCode = Literal["server_error", "unsupported_file", "invalid_file"]


class FileCounts(BaseModel):
    """Number of files by status."""

    in_progress: int
    completed: int
    failed: int
    cancelled: int
    total: int


class VectorStore(BaseModel):
    """A vector store."""

    id: str
    object: Literal["vector_store"] = "vector_store"
    created_at: int
    name: str
    description: str | None
    usage_bytes: int
    file_counts: FileCounts
    status: Literal["expired", "in_progress", "completed"]
    expires_after: ExpiresAfter | None
    expires_at: int | None
    last_active_at: int
    metadata: dict[str, str]


class LastError(BaseModel):
    """Why a file could not be ingested."""

    code: ErrorCode
    message: str


class VectorStoreFile(BaseModel):
    """A file in a vector store."""

    id: str
    object: Literal["vector_store.file"] = "vector_store.file"
    created_at: int
    vector_store_id: str
    usage_bytes: int
    status: Status
    last_error: LastError | None
    attributes: Attributes
    chunking_strategy: StaticChunking


class VectorStoreFileBatch(BaseModel):
    """Files that were added to a vector store together."""

    id: str
    object: Literal["vector_store.files_batch"] = "vector_store.files_batch"
    created_at: int
    vector_store_id: str
    status: Status
    file_counts: FileCounts


class TextContent(BaseModel):
    """A piece of text."""

    type: Literal["text"] = "text"
    text: str


class FileContent(BaseModel):
    """A file's text, chunk by chunk."""

    object: Literal["vector_store.file_content.page"] = "vector_store.file_content.page"
    data: list[TextContent]
    has_more: Literal[False] = False
    next_page: None = None


class SearchResult(BaseModel):
    """A found chunk; its score is the cosine of query and chunk, from 0 to 1."""

    file_id: str
    filename: str
    score: float
    attributes: Attributes
    content: list[TextContent]


class SearchResults(BaseModel):
    """The results of a search, best first."""

    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"
    search_query: list[str]
    data: list[SearchResult]
    has_more: Literal[False] = False
    next_page: None = None


class StoreDeleted(BaseModel):
    """A deleted vector store."""

    id: str
    object: Literal["vector_store.deleted"] = "vector_store.deleted"
    deleted: Literal[True] = True


class MemberDeleted(BaseModel):
    """A file that was removed from its vector store."""

    id: str
    object: Literal["vector_store.file.deleted"] = "vector_store.file.deleted"
    deleted: Literal[True] = True


def count(members: Iterable[MemberRecord | None]) -> FileCounts:
    """Count files by status; None stands for a file that was taken out again, and counts as cancelled."""
    found = Counter("cancelled" if member is None else member.status for member in members)
    return FileCounts(**{status: found[status] for status in STATUSES}, total=found.total())


def store_object(record: StoreRecord, members: list[MemberRecord], *, is_over: bool) -> VectorStore:
    """A vector store with its files, as a client sees it."""
    counts = count(members)
    days, expires_s = record.expires_days, record.expires_s
    return VectorStore(
        id=record.id,
        created_at=int(record.created_s),
        name=record.name,
        description=record.description,
        usage_bytes=sum(one.num_bytes for one in members if one.status == "completed"),
        file_counts=counts,
        status="expired" if is_over else "in_progress" if counts.in_progress else "completed",
        expires_after=None if days is None else ExpiresAfter(anchor="last_active_at", days=days),
        expires_at=None if expires_s is None else int(expires_s),
        last_active_at=int(record.used_s),
        metadata=record.metadata,
    )


def member_object(store: StoreRecord, member: MemberRecord) -> VectorStoreFile:
    """A file in a vector store, as a client sees it."""
    # Without validation: a collection's chunks may be smaller than a client may request.
    sizes = StaticSizes.model_construct(max_chunk_size_tokens=store.chunk_tokens, chunk_overlap_tokens=0)
    code: ErrorCode = "server_error" if member.is_readable else "invalid_file"
    return VectorStoreFile(
        id=member.id,
        created_at=int(member.created_s),
        vector_store_id=store.id,
        usage_bytes=member.num_bytes if member.status == "completed" else 0,
        status=member.status,
        last_error=None if member.error is None else LastError(code=code, message=member.error),
        attributes=member.attributes,
        chunking_strategy=StaticChunking(type="static", static=sizes),
    )


def batch_object(store_id: str, batch: BatchRecord, counts: FileCounts) -> VectorStoreFileBatch:
    """A batch, as a client sees it."""
    ended: Status = "cancelled" if batch.cancelled else "completed"
    if counts.total and counts.failed == counts.total:
        ended = "failed"
    return VectorStoreFileBatch(
        id=batch.id,
        created_at=int(batch.created_s),
        vector_store_id=store_id,
        status="in_progress" if counts.in_progress else ended,
        file_counts=counts,
    )


def search_results(queries: list[str], hits: list[StoreHit]) -> SearchResults:
    """The results of a search, as a client sees them."""
    found = [
        SearchResult(
            file_id=one.member.id,
            filename=one.member.filename,
            score=one.score,
            attributes=one.member.attributes,
            content=[TextContent(text=one.hit.text)],
        )
        for one in hits
    ]
    return SearchResults(search_query=queries, data=found)
