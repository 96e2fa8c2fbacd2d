"""All routes of files and vector stores."""

from fastapi import APIRouter

from api.server.collections.library import Library
from api.server.files.file_store import FileLimits, FileStore
from api.server.files.routes import files_router
from api.server.ingest.ingest import Ingest
from api.server.vector_stores.member_routes import batch_router, member_router
from api.server.vector_stores.store_routes import store_router
from api.server.vector_stores.stores import VectorStores


def open_vector_stores(library: Library, ingest: Ingest) -> VectorStores:
    """The vector stores of a server, and what was uploaded for them."""
    limits = FileLimits(ingest.settings.max_document_bytes, ingest.settings.max_files_bytes)
    return VectorStores(FileStore(library.store, limits), ingest, library)


def vector_stores_router(stores: VectorStores) -> APIRouter:
    """The routes over a server's vector stores, and over the files that they are made of."""
    router = APIRouter()
    router.include_router(files_router(stores.files, stores.members.forget))
    router.include_router(store_router(stores))
    router.include_router(member_router(stores))
    router.include_router(batch_router(stores))
    return router
