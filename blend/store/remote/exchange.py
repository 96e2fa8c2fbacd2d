"""Copies chunks between this machine's folder and the remote, in bulk and outside of requests."""

import logging
import os
import sys
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from queue import Full, Queue
from threading import Thread, get_native_id

from blend.errors import CorruptChunk, StoreError, StoreFull
from blend.store.file_format.byte_source import HeldBytes
from blend.store.file_format.chunk_file import ChunkFile
from blend.store.file_format.chunk_header import BadFileError
from blend.store.remote.breaker import CLOSED
from blend.store.remote.connection import UnreachableRemote
from blend.store.remote.remote import RemoteStore
from blend.store.tiers.disk import DiskStore

logger = logging.getLogger(__name__)

WAITING_CHUNKS = 10_000
"""Ids that wait to be sent; `flush` sends the chunks that did not fit."""
PATIENCE_S = 30.0
"""Time that `flush` waits for a remote that does not work."""
RETRY_S = 0.25
LOWEST_PRIORITY = 19


def lower_thread_priority() -> None:
    """Let all other threads of the machine run before this one, on systems with priorities of threads.

    On a CPU a chunk that is sent or written during a blend would take the model's own cores.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, get_native_id(), LOWEST_PRIORITY)


@dataclass(frozen=True, slots=True)
class Shared:
    """The outcome of `flush`.

    Attributes:
        sent: chunks that the remote lacked and now has.
        missing: chunks that it should have and has not.
        problem: why, or None when nothing is missing.
    """

    sent: int
    missing: int
    problem: str | None


class Exchange:
    """Sends chunks of a folder to a remote, and fetches others from there.

    Sending goes on in the background, from the files: a chunk that is sent is whole on the disk, and stays.

    Args:
        disk: this machine's folder.
        remote: what is shared with others.
    """

    def __init__(self, disk: DiskStore, remote: RemoteStore) -> None:
        self._disk = disk
        self.remote = remote
        self._waiting: Queue[str] = Queue(WAITING_CHUNKS)
        self._sent: set[str] = set()
        self._problem: str | None = None
        self._thread: Thread | None = None

    def send(self, chunk_ids: Iterable[str]) -> None:
        """Send stored chunks some time; returns at once."""
        if self._thread is None:
            self._thread = Thread(target=self._send_all, name="kvblend-send", daemon=True)
            self._thread.start()
        for chunk_id in chunk_ids:
            try:
                self._waiting.put_nowait(chunk_id)
            except Full:
                return

    def flush(self, chunk_ids: Iterable[str]) -> Shared:
        """Send those stored chunks that the remote lacks, and return when that is done or does not work.

        While the circuit is open it waits, for at most `PATIENCE_S`. At the end it enforces the remote's
        budget.
        """
        wanted = {chunk_id for chunk_id in chunk_ids if chunk_id in self._disk}
        self._waiting.join()
        until = time.monotonic() + PATIENCE_S
        while missing := self._missing(wanted):
            works = self.remote.connection.breaker.state == CLOSED
            for chunk_id in sorted(missing) if works else ():
                self._send(chunk_id)
            if time.monotonic() > until or (works and self.remote.connection.breaker.state == CLOSED):
                break  # it does not come back; or it works, and has taken or refused them
            time.sleep(RETRY_S)
        self._keep_budget()
        missing = self._missing(wanted)
        problem = (self._problem or "it does not keep them") if missing else None
        sent, self._sent, self._problem = len(self._sent - missing), set(), None
        return Shared(sent, len(missing), problem)

    def fetch(self, chunk_ids: Iterable[str]) -> int:
        """Bring chunks that are on the remote and not here into the folder; returns how many there were.

        Raises:
            StoreFull: no space left in the folder.
            StoreError: it cannot be written to.
        """
        there, fetched = set(self.remote.ids()), 0
        for chunk_id in chunk_ids:
            if chunk_id in there and chunk_id not in self._disk:
                try:
                    data = self.remote.copy_file(chunk_id)
                except CorruptChunk:
                    continue  # it is computed
                if data is not None:  # as it is: a codec is not run on what another one left
                    self._disk.put_file(chunk_id, [data])
                    fetched += 1
        return fetched

    def close(self) -> None:
        """Leave the remote when what waits was sent, or could not be."""
        self._waiting.join()
        if self._problem is not None:
            logger.warning("some chunks are on this machine's disk and not on the remote: %s", self._problem)
        self.remote.close()

    def _missing(self, chunk_ids: Collection[str]) -> set[str]:
        return set(chunk_ids) - set(self.remote.ids())

    def _send_all(self) -> None:
        lower_thread_priority()
        while True:
            chunk_id = self._waiting.get()
            try:
                if self.remote.connection.breaker.state == CLOSED:
                    self._send(chunk_id)
                else:  # what was not sent now is sent by `flush`
                    self._problem = f"remote {self.remote.connection.name} does not work"
            finally:
                self._waiting.task_done()

    def _send(self, chunk_id: str) -> None:
        try:
            data = memoryview(self._disk.path(chunk_id).read_bytes())
            ChunkFile(HeldBytes(data), chunk_id).check()  # what is damaged here is not spread
            self.remote.put_file(chunk_id, data)
            self._sent.add(chunk_id)
        except (UnreachableRemote, StoreFull) as error:
            self._problem = str(error)
        except (BadFileError, StoreError, OSError) as error:
            self._problem = f"chunk {chunk_id} cannot be sent: {error}"
            logger.warning("%s", self._problem)

    def _keep_budget(self) -> None:
        if self.remote.budget_bytes is None:
            return
        try:
            self.remote.shrink(self.remote.budget_bytes)
        except StoreError as error:
            self._problem = str(error)
