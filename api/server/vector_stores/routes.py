"""Routes of files and vector stores: `/v1/vector_stores`, one of them, and its search."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request

from api.server.collections.library import Library
from api.server.errors import FieldError
from api.server.files.file_store import FileStore
from api.server.files.routes import files_router
from api.server.ingest.ingest import Ingest
from api.server.paging import Direction, Listing, Wanted, listing, page
from api.server.surface.request import namespace_of
from api.server.vector_stores.bodies import CreateStore, SearchStore, UpdateStore
from api.server.vector_stores.kept import StoreRecord
from api.server.vector_stores.member_routes import batch_router, member_router
from api.server.vector_stores.objects import (
    SearchResults,
    StoreDeleted,
    VectorStore,
    search_results,
    store_object,
)
from api.server.vector_stores.search import least_score_of, search, search_of
from api.server.vector_stores.stores import VectorStores, is_over

DEFAULT_RESULTS = 10
MAX_QUERY_CHARACTERS = 4096


def open_vector_stores(library: Library, ingest: Ingest) -> VectorStores:
    """Open the vector stores of a server, and its uploaded files."""
    return VectorStores(FileStore(library.store, ingest.settings), ingest, library)


def vector_stores_router(stores: VectorStores) -> APIRouter:
    """All routes of a server's vector stores and uploaded files."""
    router = APIRouter()
    router.include_router(files_router(stores.files, stores.members.forget))
    router.include_router(store_router(stores))
    router.include_router(member_router(stores))
    router.include_router(batch_router(stores))
    return router


def store_router(stores: VectorStores) -> APIRouter:
    """The routes over a server's vector stores."""
    router = APIRouter(prefix="/v1/vector_stores", tags=["vector stores"])
    _add_all(router, stores)
    _add_one(router, stores)
    _add_search(router, stores)
    return router


async def _seen(stores: VectorStores, record: StoreRecord) -> VectorStore:
    return store_object(record, await stores.members.all(record), is_over=is_over(record))


def _add_all(router: APIRouter, stores: VectorStores) -> None:
    @router.post("")
    async def create_vector_store(asked: CreateStore, request: Request) -> VectorStore:
        """Create a vector store, of files or empty."""
        return await _seen(stores, await stores.create(namespace_of(request), asked))

    @router.get("")
    async def list_vector_stores(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Direction = "desc",
        after: str | None = None,
        before: str | None = None,
    ) -> Listing[VectorStore]:
        """The vector stores, the newest first by default."""
        found = page(await stores.all(namespace_of(request)), Wanted(limit, order, after, before))
        return listing(found, [await _seen(stores, record) for record in found.items])


def _add_one(router: APIRouter, stores: VectorStores) -> None:
    @router.get("/{vector_store_id}")
    async def retrieve_vector_store(vector_store_id: str, request: Request) -> VectorStore:
        """One vector store."""
        return await _seen(stores, await stores.get(vector_store_id, namespace_of(request)))

    @router.post("/{vector_store_id}")
    async def update_vector_store(vector_store_id: str, asked: UpdateStore, request: Request) -> VectorStore:
        """Change a vector store's name, metadata or expiry."""
        record = await stores.get(vector_store_id, namespace_of(request))
        return await _seen(stores, await stores.update(record, asked))

    @router.delete("/{vector_store_id}")
    async def delete_vector_store(vector_store_id: str, request: Request) -> StoreDeleted:
        """Delete a vector store; its files stay uploaded."""
        record = await stores.get(vector_store_id, namespace_of(request))
        await stores.remove(record)
        return StoreDeleted(id=record.id)


def _add_search(router: APIRouter, stores: VectorStores) -> None:
    @router.post("/{vector_store_id}/search")
    async def search_vector_store(
        vector_store_id: str, asked: SearchStore, request: Request
    ) -> SearchResults:
        """Search a vector store."""
        record = await stores.get(vector_store_id, namespace_of(request))
        check_queries(asked.queries)
        await stores.used(record)
        findable = {record.id: await stores.members.findable(record)}
        options = search_of(asked, DEFAULT_RESULTS)
        # Embedding takes milliseconds of computing; on a thread it does not hold up other requests.
        hits = await asyncio.to_thread(
            search, stores.library, findable, asked.queries, options, least_score_of(asked)
        )
        return search_results(asked.queries, hits)


def check_queries(queries: list[str]) -> None:
    """Check queries.

    Raises:
        FieldError: a query is blank or too long.
    """
    for query in queries:
        if not query.strip() or len(query) > MAX_QUERY_CHARACTERS:
            raise FieldError(
                f"query: got {len(query)} characters, expected text of at most {MAX_QUERY_CHARACTERS}",
                "query",
            )
