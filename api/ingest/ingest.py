"""Managed collections, and the jobs that bring them up to date while the server runs."""

from collections.abc import AsyncIterator, Sequence

from api.ingest.job import JobState, Upload
from retriever.filters import Metadata


class Ingest:
    """Changes collections that the server manages. Its methods belong to the server's event loop."""

    async def create(self, name: str, *, prefix: str | None = None) -> None:
        """Make an empty managed collection; it is there, and searched, when this returns.

        Raises:
            CollectionExists: there is one of that name.
            CollectionError: the name is not one.
        """
        raise NotImplementedError

    async def remove(self, name: str) -> None:
        """Remove a managed collection with its documents, and what only it needed; its jobs fail.

        Raises:
            UnknownCollection: there is none of that name.
            NotManaged: it is not the server's.
        """
        raise NotImplementedError

    async def put(self, name: str, path: str, data: bytes, metadata: Metadata | None = None) -> str:
        """Add or replace a document; returns the job's id."""
        return await self.put_many(name, [Upload(path, data, metadata or {})])

    async def put_many(self, name: str, documents: Sequence[Upload]) -> str:
        """Add or replace documents in one job; returns its id. They lie on the disk when this returns.

        Raises:
            UnknownCollection, NotManaged: there is no such managed collection.
            BadUpload: a path or a description cannot be stored; nothing was.
            TooLarge: a document, or their number, is over its limit; nothing was stored.
            Busy: as many jobs wait as may wait.
        """
        raise NotImplementedError

    async def drop(self, name: str, path: str) -> str:
        """Remove a document; returns the job's id. When the job has completed, it is in no answer.

        Raises:
            UnknownCollection, NotManaged: there is no such managed collection.
            UnknownDocument: it has no document of that path.
        """
        raise NotImplementedError

    def manages(self, name: str) -> bool:
        """Whether a collection is one of those that may be changed here."""
        raise NotImplementedError

    def job(self, job_id: str) -> JobState:
        """A job as it stands.

        Raises:
            UnknownJob: there is none of that id, or it ended long ago.
        """
        raise NotImplementedError

    def jobs(self, name: str) -> list[JobState]:
        """Jobs of a collection, the newest first; of those that ended, the last ones.

        Raises:
            UnknownCollection: there is none of that name.
        """
        raise NotImplementedError

    async def finished(self, job_id: str) -> JobState:
        """The job when it has ended.

        Raises:
            UnknownJob: there is none of that id.
        """
        async for state in self.updates(job_id):
            last = state
        return last

    def updates(self, job_id: str) -> AsyncIterator[JobState]:
        """The job as it stands, and again whenever it has come further, until it has ended.

        Raises:
            UnknownJob: there is none of that id.
        """
        raise NotImplementedError
