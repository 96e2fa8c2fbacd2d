"""The jobs that a server knows: what each is to do, how far it has come, and who waits for it."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from api.server.errors import UnknownJob
from api.server.ingest.folders import documents_folder
from retriever.durable import write_durably


class Status(StrEnum):
    """How far a job has come."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


FINAL = (Status.COMPLETED, Status.FAILED)


class DocumentStatus(StrEnum):
    """How far a document of a job has come, in the words of OpenAI's vector stores."""

    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"


class JobState(BaseModel):
    """A job at one moment.

    Attributes:
        error: why the job failed, or None.
        documents: status of each document, by path. A document that could not be read has failed, in a job
            that completed: the other documents are in the collection. A removed document has completed.
        errors: why a document failed, by path.
        chunks_done, chunks_total: of the run over the collection, which may serve several jobs at once.
        created_at: seconds since 1970.
    """

    model_config = ConfigDict(frozen=True)

    object: Literal["collection.job"] = "collection.job"
    id: str
    collection: str
    status: Status
    error: str | None
    documents: dict[str, DocumentStatus]
    errors: dict[str, str]
    chunks_done: int
    chunks_total: int
    created_at: float

    @property
    def ended(self) -> bool:
        """Whether the job has reached its final state."""
        return self.status in FINAL


@dataclass(frozen=True, slots=True)
class Task:
    """What a job is to do.

    Attributes:
        paths: of its documents.
        removes: True removes the documents; False adds or replaces them.
    """

    id: str
    collection: str
    paths: tuple[str, ...]
    removes: bool
    created_at: float


@dataclass(slots=True)
class Job:
    """A task and its progress; belongs to the event loop.

    Attributes:
        changed: is set at the next change, and then replaced by a new event.
    """

    task: Task
    status: Status = Status.QUEUED
    error: str | None = None
    errors: dict[str, str] = field(default_factory=dict)
    chunks_done: int = 0
    chunks_total: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def ended(self) -> bool:
        """Whether the job has reached its final state."""
        return self.status in FINAL

    def state(self) -> JobState:
        """The job at this moment."""
        return JobState(
            id=self.task.id,
            collection=self.task.collection,
            status=self.status,
            error=self.error,
            documents={path: self._document(path) for path in self.task.paths},
            errors=self.errors,
            chunks_done=self.chunks_done,
            chunks_total=self.chunks_total,
            created_at=self.task.created_at,
        )

    def _document(self, path: str) -> DocumentStatus:
        if not self.ended:
            return DocumentStatus.IN_PROGRESS
        failed = self.status is Status.FAILED or path in self.errors
        return DocumentStatus.FAILED if failed else DocumentStatus.COMPLETED

    def note(self) -> None:
        """Wake those who wait for a change."""
        self.changed.set()
        self.changed = asyncio.Event()


class Jobs:
    """All jobs by their ids, in the order of their arrival; belongs to the event loop.

    Args:
        kept: maximum number of finished jobs to remember.
    """

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._jobs: dict[str, Job] = {}

    def add(self, task: Task) -> None:
        """Queue a task."""
        self._jobs[task.id] = Job(task)

    def state(self, job_id: str) -> JobState:
        """A job at this moment.

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
        """Mark jobs as completed or failed.

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
        """The job at this moment, and again after each change, until it has ended.

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
            raise UnknownJob(f"no job {job_id[:80]!r}: expected the id of a job that runs or ended recently")
        return job


class Unfinished:
    """Tasks that have not ended, on disk, so that a restarted server resumes them.

    Each collection has a file of its own, written whole whenever a task arrives or ends.
    """

    def __init__(self, store: Path) -> None:
        self._folder = documents_folder(store) / ".jobs"

    def write(self, collection: str, tasks: Iterable[Task]) -> None:
        """Replace a collection's tasks; without tasks the file is deleted."""
        content = [asdict(task) for task in tasks]
        path = self._folder / f"{collection}.json"
        if content:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_durably(path, json.dumps(content).encode())
        else:
            path.unlink(missing_ok=True)

    def read(self, collection: str) -> list[Task]:
        """A collection's tasks, in the order of their arrival; none where the file is damaged.

        The documents themselves are in their folder by then, so only the ids of the jobs are lost.
        """
        try:
            entries = json.loads((self._folder / f"{collection}.json").read_bytes())
            return [Task(**{**entry, "paths": tuple(entry["paths"])}) for entry in entries]
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return []
