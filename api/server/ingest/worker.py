"""The worker of ingestion: runs queued work in order of priority, one run at a time."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import NamedTuple

from api.server.ingest.jobs import Job, Jobs, Status, Unfinished
from api.server.ingest.pacing import Interrupted, Interruption
from api.server.ingest.runs import Runs
from blend.errors import BlendError
from precompute.errors import PrecomputeError, StoreInUse
from precompute.events import Computed, Event, FileUnreadable, Planned
from retriever.errors import RetrieverError
from retriever.manifest import Manifest

logger = logging.getLogger(__name__)

PATIENCE_S = 5.0
"""Time that a run gets before chunks of chat requests may pre-empt it: a pre-empted run starts over."""

UNSUPPORTED = (
    "unsupported file type (supported: text, Markdown, HTML, PDF and source files), or deleted while it was "
    "being ingested"
)

RETRY_S = 1.0
"""Time between two attempts to lock a store that another process writes to."""


class Learned(NamedTuple):
    """The text of a chunk from a namespace's chat request."""

    namespace: str
    text: str


class Worker:
    """Runs jobs in one thread; its state belongs to the event loop.

    Priorities: removal of collections and documents, then chunks of chat requests, then new documents. Work
    of higher priority pre-empts the current run, which is resumed later.
    """

    def __init__(self, runs: Runs, jobs: Jobs, unfinished: Unfinished, interruption: Interruption) -> None:
        self._runs = runs
        self._jobs = jobs
        self._unfinished = unfinished
        self._interruption = interruption
        self._removals: dict[str, asyncio.Future[None]] = {}
        self._to_learn: dict[Learned, None] = {}
        self._to_unlearn: dict[Learned, None] = {}
        self._wake = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._closing = False
        self._began_s = 0.0
        self._is_removing = False  # True while the current run must not be pre-empted

    def start(self) -> None:
        """Start the worker on the running loop."""
        self._loop = asyncio.get_running_loop().create_task(self._work())
        self.wake()

    async def close(self) -> None:
        """Stop the current run, and begin no other."""
        self._closing = True
        self.wake(preempts=True)
        if self._loop is not None:
            await self._loop
        for future in self._removals.values():
            future.cancel()

    def wake(self, *, preempts: bool = False) -> None:
        """Tell the worker of new work.

        Args:
            preempts: the new work pre-empts the current run.
        """
        if preempts and (self._closing or not self._is_removing):
            self._interruption.ask()
        self._wake.set()

    def remove(self, name: str) -> Awaitable[None]:
        """Remove a collection that was set aside; await the result for the end of the removal."""
        if name not in self._removals:
            self._removals[name] = asyncio.get_running_loop().create_future()
        self.wake(preempts=True)
        return asyncio.shield(self._removals[name])

    def learn(self, texts: Iterable[str], evicted: Iterable[str] = (), *, namespace: str = "") -> None:
        """Queue chunks of a namespace's chat request for computing.

        Args:
            evicted: chunks that were evicted for them, and are dropped.
        """
        for one in (Learned(namespace, text) for text in texts):
            self._to_unlearn.pop(one, None)
            self._to_learn[one] = None
        for one in (Learned(namespace, text) for text in evicted):
            self._to_learn.pop(one, None)
            self._to_unlearn[one] = None
        self.wake(preempts=time.monotonic() - self._began_s > PATIENCE_S)

    async def _work(self) -> None:
        while not self._closing:
            self._wake.clear()
            self._interruption.clear()
            self._began_s = time.monotonic()
            try:
                done = await self._run_next()
            except StoreInUse:
                await asyncio.sleep(RETRY_S)
                continue
            except Interrupted:
                continue
            if not done:
                await self._wake.wait()

    async def _run_next(self) -> bool:
        """Run the work of highest priority; False when there is none.

        Raises:
            Interrupted, StoreInUse: the work is still to be done.
        """
        removing = [job for job in self._jobs.unended() if job.task.removes]
        self._is_removing = bool(self._removals or removing)
        if self._removals:
            await self._remove(next(iter(self._removals)))
        elif removing:
            await self._update(
                [job for job in removing if job.task.collection == removing[0].task.collection]
            )
        elif self._to_learn or self._to_unlearn:
            await self._learn()
        elif waiting := self._jobs.unended():
            await self._update(self._jobs.unended(waiting[0].task.collection))
        else:
            return False
        return True

    async def _remove(self, name: str) -> None:
        try:
            await asyncio.to_thread(self._runs.remove, name)
        except (PrecomputeError, RetrieverError, BlendError, OSError) as error:
            if isinstance(error, StoreInUse):
                raise
            logger.warning("collection %s is no longer served, but stays on disk: %s", name, error)
        self._removals.pop(name).set_result(None)

    async def _learn(self) -> None:
        namespace = next(iter((*self._to_learn, *self._to_unlearn))).namespace  # one tenant at a time
        new = [one for one in self._to_learn if one.namespace == namespace]
        evicted = [one for one in self._to_unlearn if one.namespace == namespace]
        try:
            if new:
                await asyncio.to_thread(self._runs.learn, [one.text for one in new], namespace)
            if evicted:
                await asyncio.to_thread(self._runs.unlearn, [one.text for one in evicted], namespace)
        except (Interrupted, StoreInUse):
            raise
        except Exception as error:  # their text is computed cold, as any unknown text
            logger.warning("documents of chat requests were not precomputed: %s", _why(error))
        for one in new:
            self._to_learn.pop(one, None)
        for one in evicted:
            self._to_unlearn.pop(one, None)

    async def _update(self, jobs: Sequence[Job]) -> None:
        """One run for all queued jobs of a collection, or for all its removals."""
        name, only_removes = jobs[0].task.collection, jobs[0].task.removes
        errors: dict[str, str] = {}
        loop = asyncio.get_running_loop()

        def report(event: Event) -> None:
            loop.call_soon_threadsafe(self._progress, jobs, event, errors)

        for job in jobs:
            job.status = Status.RUNNING
            job.note()
        error: str | None = None
        try:
            manifest = await asyncio.to_thread(self._runs.update, name, report, only_removes=only_removes)
            errors = _unread(jobs, manifest, errors)
        except (Interrupted, StoreInUse):
            _requeue(jobs)
            raise
        except Exception as failure:
            if self._closing:  # the engine may have stopped first, which is not the documents' fault
                _requeue(jobs)
                raise Interrupted from failure
            error = _why(failure)  # the worker goes on with the next job
        left = [job for job in jobs if not job.ended]
        self._jobs.end(left, error, errors)
        tasks = [job.task for job in self._jobs.unended(name)]
        await asyncio.to_thread(self._unfinished.write, name, tasks)

    def _progress(self, jobs: Sequence[Job], event: Event, errors: dict[str, str]) -> None:
        match event:
            case FileUnreadable():
                errors[event.path] = event.reason
            case Planned():
                for job in jobs:
                    job.chunks_done, job.chunks_total = 0, event.to_compute
            case Computed():
                for job in jobs:
                    job.chunks_done = event.chunks
                if self._to_learn and time.monotonic() - self._began_s > PATIENCE_S:
                    self._interruption.ask()
            case _:
                return
        for job in jobs:
            if not job.ended:
                job.note()


def _requeue(jobs: Sequence[Job]) -> None:
    for job in jobs:
        if not job.ended:  # its collection was deleted meanwhile
            job.status = Status.QUEUED
            job.note()


def _unread(jobs: Sequence[Job], manifest: Manifest, errors: Mapping[str, str]) -> dict[str, str]:
    """Reasons why documents of these jobs are not in the collection."""
    there = {document.path for document in manifest.documents}
    missing = {path for job in jobs if not job.task.removes for path in job.task.paths} - there
    return {path: errors.get(path, UNSUPPORTED) for path in missing}


def _why(error: Exception) -> str:
    if isinstance(error, PrecomputeError | RetrieverError | BlendError | OSError):
        return str(error)
    logger.error("ingestion failed", exc_info=error)
    return f"{type(error).__name__}: {error}"
