"""The jobs that a server knows: what is to be done, how far it has come, and who waits for it."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field

from api.server.errors import UnknownJob
from api.server.ingest.job import DocumentStatus, JobState, Status
from api.server.ingest.unfinished import Task


@dataclass(slots=True)
class Job:
    """A task, and how far it has come; belongs to the event loop.

    Attributes:
        changed: is set when it has come further, and another one takes its place.
    """

    task: Task
    status: Status = Status.QUEUED
    error: str | None = None
    errors: Mapping[str, str] = field(default_factory=dict)
    chunks_done: int = 0
    chunks_total: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def ended(self) -> bool:
        """Whether nothing more will change."""
        return self.status.is_final

    def state(self) -> JobState:
        """The job as it stands."""
        task = self.task
        return JobState(
            id=task.id,
            collection=task.collection,
            status=self.status,
            error=self.error,
            documents={path: self._document(path) for path in task.paths},
            errors=self.errors,
            chunks_done=self.chunks_done,
            chunks_total=self.chunks_total,
            created_at=task.created_at,
        )

    def _document(self, path: str) -> DocumentStatus:
        if not self.ended:
            return DocumentStatus.IN_PROGRESS
        failed = self.status is Status.FAILED or path in self.errors
        return DocumentStatus.FAILED if failed else DocumentStatus.COMPLETED

    def note(self) -> None:
        """Tell those who wait that something has changed."""
        self.changed.set()
        self.changed = asyncio.Event()


class Jobs:
    """All jobs by their ids, in the order of their arrival; belongs to the event loop.

    Args:
        kept: most jobs that have ended and are remembered.
    """

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._jobs: dict[str, Job] = {}

    def add(self, task: Task) -> None:
        """A job that waits for its turn."""
        self._jobs[task.id] = Job(task)

    def state(self, job_id: str) -> JobState:
        """A job as it stands.

        Raises:
            UnknownJob: there is none of that id, or it ended long ago.
        """
        return self._job(job_id).state()

    def of(self, collection: str) -> list[JobState]:
        """A collection's jobs, the newest first."""
        jobs = [job.state() for job in self._jobs.values() if job.task.collection == collection]
        return jobs[::-1]

    def unended(self, collection: str | None = None) -> list[Job]:
        """Jobs that have not ended, the oldest first."""
        return [
            job for job in self._jobs.values() if not job.ended and collection in (None, job.task.collection)
        ]

    def end(self, jobs: Iterable[Job], error: str | None, errors: Mapping[str, str]) -> None:
        """These have ended.

        Args:
            error: why they failed, or None.
            errors: why documents failed, by path.
        """
        for job in jobs:
            job.status = Status.COMPLETED if error is None else Status.FAILED
            job.error = error
            job.errors = {path: errors[path] for path in job.task.paths if path in errors}
            job.note()
        ended = [job_id for job_id, job in self._jobs.items() if job.ended]
        for job_id in ended[: max(0, len(ended) - self._kept)]:
            del self._jobs[job_id]

    async def updates(self, job_id: str) -> AsyncIterator[JobState]:
        """The job as it stands, and again whenever it has come further, until it has ended.

        Raises:
            UnknownJob: there is none of that id.
        """
        job = self._job(job_id)
        while True:
            changed = job.changed
            yield job.state()
            if job.ended:
                return
            await changed.wait()

    def _job(self, job_id: str) -> Job:
        job = self._jobs.get(job_id)
        if job is None:
            raise UnknownJob(f"no job {job_id[:80]!r}: expected the id of one that goes on, or ended lately")
        return job
