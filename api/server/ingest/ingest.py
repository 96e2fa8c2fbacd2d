"""Managed collections, and the jobs that update them while the server runs."""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from api.server.collections.library import Library
from api.server.errors import BadUpload, Busy, CollectionExists, NotManaged, TooLarge, UnknownDocument
from api.server.ingest.folders import (
    DocumentFolder,
    Upload,
    check_metadata,
    check_path,
    managed_names,
    names_being_removed,
)
from api.server.ingest.jobs import Jobs, JobState, Task, Unfinished
from api.server.ingest.pacing import Interruption
from api.server.ingest.runs import Runs
from api.server.ingest.worker import Worker
from api.server.settings import DEFAULTS, ServeConfig
from api.server.surface.request import namespace_in_force
from retriever.errors import CollectionError, RetrieverError
from retriever.filters import Metadata
from retriever.layout import list_collections, read_manifest

logger = logging.getLogger(__name__)


class Ingest:
    """Changes managed collections. Its methods belong to the server's event loop.

    Between `start` and `close` its worker runs the jobs, one at a time.

    Args:
        library: the server's collections.
        fingerprint: of the served model.

    Attributes:
        worker: runs the jobs.
    """

    def __init__(
        self,
        library: Library,
        runs: Runs,
        interruption: Interruption,
        fingerprint: str,
        settings: ServeConfig = DEFAULTS,
    ) -> None:
        self.settings = settings
        self._library = library
        self._store: Path = library.store
        self._runs = runs
        self._fingerprint = fingerprint
        self._jobs = Jobs(settings.max_ended_jobs)
        self._unfinished = Unfinished(library.store)
        self.worker = Worker(runs, self._jobs, self._unfinished, interruption)
        self._changing = asyncio.Lock()
        self._creating: set[str] = set()

    async def start(self) -> None:
        """Load the managed collections of this model, and resume unfinished jobs and removals."""
        for name in names_being_removed(self._store):
            self.worker.remove(name)
        for name in {*managed_names(self._store)}.difference(list_collections(self._store)):
            with suppress(OSError):  # the server was stopped while it created the collection
                DocumentFolder(self._store, name).path.rmdir()
        managed = partial(managed_names, self._store)
        for name in await asyncio.to_thread(self._library.follow, managed, self._fingerprint):
            for task in self._unfinished.read(name):
                self._jobs.add(task)
        self.worker.start()

    async def close(self) -> None:
        """Stop the current run; the next start resumes it."""
        await self.worker.close()

    async def create(self, name: str, *, prefix: str | None = None, chunk_tokens: int | None = None) -> None:
        """Create an empty managed collection; it can be searched when this returns.

        It belongs to the namespace of the current request.

        Args:
            chunk_tokens: maximum tokens of a chunk; the server's default when None.

        Raises:
            CollectionExists: a collection of that name exists.
            BadUpload: the name is invalid.
        """
        try:
            folder = DocumentFolder(self._store, name)
        except CollectionError as error:
            raise BadUpload(str(error)) from None
        there = folder.exists() or name in (*list_collections(self._store), *self._creating)
        if there or name in names_being_removed(self._store):
            raise CollectionExists(
                f"collection {name!r} exists already: choose another name, or delete it first"
            )
        self._creating.add(name)
        try:
            await asyncio.to_thread(self._runs.create, name, prefix, chunk_tokens, namespace_in_force.get())
        finally:
            self._creating.discard(name)

    async def remove(self, name: str) -> None:
        """Delete a managed collection, its documents, and the chunk KV that no other needs; its jobs fail.

        Raises:
            UnknownCollection: no collection of that name.
            NotManaged: the server does not manage it.
        """
        async with self._changing:
            folder = self._folder(name)
            await asyncio.to_thread(folder.set_aside)
            jobs = self._jobs.unended(name)
            self._jobs.end(jobs, "the collection was deleted", {})
            self._unfinished.write(name, ())
            await asyncio.to_thread(self._library.remove, name)
            removed = self.worker.remove(name)
        await removed

    async def put(self, name: str, path: str, data: bytes, metadata: Metadata | None = None) -> str:
        """Add or replace a document; see `put_many`. Returns the job's id."""
        return await self.put_many(name, [Upload(path, data, metadata or {})])

    async def put_many(self, name: str, documents: Sequence[Upload]) -> str:
        """Upsert documents in one job; returns the job's id. The documents are on disk when this returns.

        Raises:
            UnknownCollection, NotManaged: no such managed collection.
            BadUpload: a path or metadata is invalid; nothing was stored, unless a folder has a path.
            TooLarge: a document, or the number of documents, is over its limit; nothing was stored.
            Busy: the job queue is full.
        """
        self._check(documents)
        async with self._changing:
            folder = self._folder(name)
            self._check_room()
            return await self._add(name, [document.path for document in documents], folder.write, documents)

    async def drop(self, name: str, path: str) -> str:
        """Delete a document; returns the job's id. No answer holds the document once the job has completed.

        Raises:
            UnknownCollection, NotManaged: no such managed collection.
            BadUpload: the path is invalid.
            UnknownDocument: the collection has no document of that path.
        """
        async with self._changing:
            folder = self._folder(name)
            if not folder.has(path):
                raise UnknownDocument(f"no document {path[:200]!r} in collection {name!r}")
            return await self._add(name, [path], folder.delete, [path], removes=True)

    def manages(self, name: str) -> bool:
        """Whether a collection is managed by the server."""
        return name in self._library.names and DocumentFolder(self._store, name).exists()

    def job(self, job_id: str) -> JobState:
        """A job at this moment.

        Raises:
            UnknownJob: no job of that id, or it ended long ago.
        """
        return self._jobs.state(job_id)

    def jobs(self, name: str) -> list[JobState]:
        """Unfinished and recently finished jobs of a collection, the newest first.

        Raises:
            UnknownCollection: no collection of that name.
        """
        self._library.prefix_of(name)
        return self._jobs.of(name)

    async def finished(self, job_id: str) -> JobState:
        """Wait for the end of a job.

        Raises:
            UnknownJob: no job of that id.
        """
        async for state in self.updates(job_id):
            last = state
        return last

    def updates(self, job_id: str) -> AsyncIterator[JobState]:
        """The job at this moment, and again after each change, until it has ended.

        Raises:
            UnknownJob: at once, if there is no job of that id.
        """
        self._jobs.state(job_id)
        return self._jobs.updates(job_id)

    def _check(self, documents: Sequence[Upload]) -> None:
        settings = self.settings
        if not 0 < len(documents) <= settings.max_job_documents:
            most = settings.max_job_documents
            raise TooLarge(f"got {len(documents)} documents, expected 1 to {most} in a job")
        for document in documents:
            check_path(document.path)
            check_metadata(document.path, document.metadata, settings.max_metadata_bytes)
            if len(document.data) > settings.max_document_bytes:
                raise TooLarge(
                    f"document {document.path!r}: got {len(document.data):,} bytes, expected at most "
                    f"{settings.max_document_bytes:,}"
                )

    def _check_room(self) -> None:
        waiting = len(self._jobs.unended())
        if waiting >= self.settings.max_jobs:
            raise Busy(f"the job queue is full ({waiting} jobs): try again when some have ended")

    def _folder(self, name: str) -> DocumentFolder:
        """The document folder of a managed collection."""
        if self._library.namespace_of(name) != namespace_in_force.get():
            raise NotManaged(
                f"collection {name!r} is public (created without an API key) and read-only for API-key "
                "clients"
            )
        folder = DocumentFolder(self._store, name)
        if not folder.exists():
            raise NotManaged(
                f"collection {name!r} is built by `kvblend precompute` from a folder: edit that folder and "
                "run it again"
            )
        return folder

    async def _add(
        self,
        name: str,
        paths: Sequence[str],
        change: Callable[..., None],
        arguments: Sequence[object],
        *,
        removes: bool = False,
    ) -> str:
        """Change the folder, then queue a job that updates the collection."""
        task = Task(f"job-{uuid.uuid4().hex}", name, tuple(dict.fromkeys(paths)), removes, time.time())

        def on_disk() -> None:
            for argument in arguments:
                change(argument)
            self._unfinished.write(name, [*(job.task for job in self._jobs.unended(name)), task])

        await asyncio.to_thread(on_disk)
        self._jobs.add(task)
        self.worker.wake(preempts=removes)
        return task.id


def managed_model(store: Path) -> str | None:
    """The model of all managed collections of a store, if they share one."""
    models = set()
    for name in managed_names(store):
        with suppress(RetrieverError):
            models.add(read_manifest(store, name).settings.model)
    return models.pop() if len(models) == 1 else None
