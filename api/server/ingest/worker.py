"""The one who runs: takes what is to be done, the most pressing first, one run at a time."""

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
"""So long a run goes on before it is put off for chunks of chat requests: to be put off costs time."""

RETRY_S = 1.0
"""Between two tries to get at a store that another process writes to."""


class Learned(NamedTuple):
    """The text of a chunk that came in a namespace's chat request."""

    namespace: str
    text: str


class Worker:
    """Does jobs and other work in one thread; all else of it belongs to the event loop.

    What presses goes first: collections and documents that are to go, then chunks of chat requests, then
    documents that come. A run that is in the way is stopped, and goes on later from where it was.
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
        self._presses = False  # whether the present run is one that others are put off for

    def start(self) -> None:
        """Begin to work, on the loop that runs."""
        self._loop = asyncio.get_running_loop().create_task(self._work())
        self.wake()

    async def close(self) -> None:
        """Stop the present run, and begin no other."""
        self._closing = True
        self.wake(hurries=True)
        if self._loop is not None:
            await self._loop
        for future in self._removals.values():
            future.cancel()

    def wake(self, *, hurries: bool = False) -> None:
        """There is something to do.

        Args:
            hurries: the present run is to be put off for it.
        """
        if hurries and (self._closing or not self._presses):
            self._interruption.ask()
        self._wake.set()

    def remove(self, name: str) -> Awaitable[None]:
        """Remove a collection that was set aside; done when it is awaited."""
        if name not in self._removals:
            self._removals[name] = asyncio.get_running_loop().create_future()
        self.wake(hurries=True)
        return asyncio.shield(self._removals[name])

    def learn(self, texts: Iterable[str], gone: Iterable[str] = (), *, namespace: str = "") -> None:
        """Have chunks of a namespace's chat request computed in the background.

        Args:
            gone: chunks that had to make room for them.
        """
        for one in (Learned(namespace, text) for text in texts):
            self._to_unlearn.pop(one, None)
            self._to_learn[one] = None
        for one in (Learned(namespace, text) for text in gone):
            self._to_learn.pop(one, None)
            self._to_unlearn[one] = None
        self.wake(hurries=time.monotonic() - self._began_s > PATIENCE_S)

    async def _work(self) -> None:
        while not self._closing:
            self._wake.clear()
            self._interruption.clear()
            self._began_s = time.monotonic()
            try:
                done = await self._most_pressing()
            except StoreInUse:
                await asyncio.sleep(RETRY_S)
                continue
            except Interrupted:
                continue
            if not done:
                await self._wake.wait()

    async def _most_pressing(self) -> bool:
        """Do one thing; False when there is nothing to do.

        Raises:
            Interrupted, StoreInUse: it is still to be done.
        """
        going = [job for job in self._jobs.unended() if job.task.removes]
        self._presses = bool(self._removals or going)
        if self._removals:
            await self._remove(next(iter(self._removals)))
        elif going:
            await self._update([job for job in going if job.task.collection == going[0].task.collection])
        elif self._to_learn or self._to_unlearn:
            await self._learn()
        elif coming := self._jobs.unended():
            await self._update(self._jobs.unended(coming[0].task.collection))
        else:
            return False
        return True

    async def _remove(self, name: str) -> None:
        try:
            await asyncio.to_thread(self._runs.remove, name)
        except (PrecomputeError, RetrieverError, BlendError, OSError) as error:
            if isinstance(error, StoreInUse):
                raise
            logger.warning("collection %s is not served any more, but stays on the disk: %s", name, error)
        self._removals.pop(name).set_result(None)

    async def _learn(self) -> None:
        namespace = next(iter((*self._to_learn, *self._to_unlearn))).namespace  # one tenant's at a time
        new = [one for one in self._to_learn if one.namespace == namespace]
        gone = [one for one in self._to_unlearn if one.namespace == namespace]
        try:
            if new:
                await asyncio.to_thread(self._runs.learn, [one.text for one in new], namespace)
            if gone:
                await asyncio.to_thread(self._runs.unlearn, [one.text for one in gone], namespace)
        except (Interrupted, StoreInUse):
            raise
        except Exception as error:  # they are computed cold, as any unknown text is
            logger.warning("documents of chat requests were not precomputed: %s", _why(error))
        for one in new:
            self._to_learn.pop(one, None)
        for one in gone:
            self._to_unlearn.pop(one, None)

    async def _update(self, jobs: Sequence[Job]) -> None:
        """One run for all jobs of a collection that wait, or for those that remove."""
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
            _put_off(jobs)
            raise
        except Exception as failure:
            if self._closing:  # the engine may have gone first: that is no fault of the documents
                _put_off(jobs)
                raise Interrupted from failure
            error = _why(failure)  # whatever it is, the next job may do better
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


def _put_off(jobs: Sequence[Job]) -> None:
    for job in jobs:
        if not job.ended:  # its collection was removed
            job.status = Status.QUEUED
            job.note()


def _unread(jobs: Sequence[Job], manifest: Manifest, errors: Mapping[str, str]) -> dict[str, str]:
    """Why documents of these jobs are not in the collection."""
    there = {document.path for document in manifest.documents}
    missing = {path for job in jobs if not job.task.removes for path in job.task.paths} - there
    return {path: errors.get(path, "it is no text, or was removed meanwhile") for path in missing}


def _why(error: Exception) -> str:
    if isinstance(error, PrecomputeError | RetrieverError | BlendError | OSError):
        return str(error)
    logger.error("ingestion failed", exc_info=error)
    return f"{type(error).__name__}: {error}"
