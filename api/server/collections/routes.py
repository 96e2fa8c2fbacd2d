"""Routes that list the collections and their chunks, and search them."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel

from api.server.chat.options import SearchBody
from api.server.collections.library import Library
from api.server.errors import FieldError
from api.server.paging import Wanted, page
from retriever.collection import Chunk, Collection
from retriever.errors import QueryError
from retriever.retrieve import Hit

MAX_PAGE = 100


class CollectionObject(BaseModel):
    """A collection.

    Attributes:
        chunks, tokens: each chunk counted once, also if several documents hold it.
        model: name of the model that computed the chunk KV.
        prefix: text before the first chunk.
    """

    object: Literal["collection"] = "collection"
    name: str
    documents: int
    chunks: int
    tokens: int
    model: str
    embedder: str
    prefix: str


class CollectionList(BaseModel):
    """The server's collections."""

    object: Literal["list"] = "list"
    data: list[CollectionObject]


class ChunkObject(BaseModel):
    """A chunk with the first document that holds it; `tokens` are the served model's."""

    object: Literal["collection.chunk"] = "collection.chunk"
    id: str
    source: str
    title: str
    text: str
    tokens: int


class ChunkList(BaseModel):
    """A page of chunks; `after` with the last chunk's id gives the next page."""

    object: Literal["list"] = "list"
    data: list[ChunkObject]
    has_more: bool


class HitObject(BaseModel):
    """A found chunk, see `retriever.retrieve.Hit`; `metadata` is its document's."""

    object: Literal["collection.hit"] = "collection.hit"
    chunk_id: str
    score: float | None
    source: str
    title: str
    text: str
    tokens: int
    metadata: dict[str, str | float | bool | list[str | float | bool]]


class HitList(BaseModel):
    """The hits of a search, in the requested order."""

    object: Literal["list"] = "list"
    data: list[HitObject]


def collections_router(library: Library) -> APIRouter:
    """Read-only routes over a library."""
    router = APIRouter(prefix="/v1/collections", tags=["collections"])

    @router.get("")
    async def list_collections() -> CollectionList:
        """The server's collections."""
        return CollectionList(data=[_collection_object(one) for one in library.collections()])

    @router.get("/{name}")
    async def retrieve_collection(name: str) -> CollectionObject:
        """One collection."""
        return _collection_object(library.collection(name))

    @router.get("/{name}/chunks")
    async def list_chunks(
        name: str,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 20,
        document: str | None = None,
    ) -> ChunkList:
        """Chunks in the order of their documents, each once; of all documents or of one."""
        found = page(_chunks(library.collection(name), document), Wanted(limit, "asc", after))
        return ChunkList(data=found.items, has_more=found.has_more)

    @router.post("/{name}/search")
    async def search_collection(name: str, body: SearchBody) -> HitList:
        """Chunks that match a query, best first by default."""
        # Embedding takes milliseconds of computing; on a thread it does not hold up other requests.
        hits = await asyncio.to_thread(_search, library, name, body)
        return HitList(data=[_hit_object(hit) for hit in hits])

    return router


def _collection_object(collection: Collection) -> CollectionObject:
    settings = collection.settings
    return CollectionObject(
        name=settings.name,
        documents=len(collection.documents),
        chunks=len(collection.chunks),
        tokens=sum(chunk.num_tokens for chunk in collection.chunks),
        model=settings.model,
        embedder=settings.embedder,
        prefix=settings.prefix,
    )


def _chunks(collection: Collection, document: str | None) -> list[ChunkObject]:
    if document is not None and document not in collection.documents:
        raise FieldError(
            f"document: got {document[:80]!r}, expected the path of a document "
            f"of {collection.settings.name!r}",
            "document",
        )
    listed: dict[str, ChunkObject] = {}
    for entry in collection.manifest.documents:
        if document is None or entry.path == document:
            for chunk_id in entry.chunk_ids:
                chunk = collection.chunks[collection.rows[chunk_id]]
                listed.setdefault(chunk_id, _chunk_object(chunk, entry.path, entry.title))
    return list(listed.values())


def _chunk_object(chunk: Chunk, source: str, title: str) -> ChunkObject:
    return ChunkObject.model_construct(
        id=chunk.chunk_id, source=source, title=title, text=chunk.text, tokens=chunk.num_tokens
    )


def _search(library: Library, name: str, body: SearchBody) -> list[Hit]:
    try:
        return library.search(name, body.query, body.search())
    except QueryError as error:
        raise FieldError(str(error), error.option or "query") from None


def _hit_object(hit: Hit) -> HitObject:
    metadata: Any = {
        key: list(value) if isinstance(value, tuple) else value for key, value in hit.metadata.items()
    }
    return HitObject(
        chunk_id=hit.chunk_id,
        score=hit.score,
        source=hit.source,
        title=hit.title,
        text=hit.text,
        tokens=hit.num_tokens,
        metadata=metadata,
    )
