"""The chunks of a remote as of a moment ago, for callers that must not wait for a server."""

import logging
import time
from collections.abc import Iterator
from threading import Event, Thread

from blend.chunks.chunk import ChunkRecord
from blend.store.remote.breaker import CLOSED
from blend.store.remote.remote import RemoteStore

logger = logging.getLogger(__name__)

EVERY_S = 1.0
RELIST_S = 60.0
"""Interval of a full listing, which notices chunks that the server removed by itself."""
AT_ONCE = 200
"""Records read before those chunks are shown."""


class RemoteView:
    """Ids and records of a remote's chunks; a thread of the view keeps them up to date.

    Its methods return at once, from memory. While the circuit is open it shows no chunks. It keeps their
    records, and shows them again when the circuit closes.

    Args:
        remote: whose chunks these are.
    """

    def __init__(self, remote: RemoteStore) -> None:
        self._remote = remote
        self._records: dict[str, ChunkRecord] = {}
        self._shown: dict[str, ChunkRecord] = {}
        self._generation = 0
        self._seen: int | None = None
        self._listed_s = float("-inf")
        self._stopped = Event()
        self._first = Event()
        self._thread = Thread(target=self._follow, name="kvblend-view", daemon=True)

    def start(self, wait_s: float) -> None:
        """Begin to follow the remote; returns when it was listed once, at the latest after `wait_s`."""
        self._thread.start()
        self._first.wait(wait_s)

    def ids(self) -> Iterator[str]:
        """Ids of the chunks that can be had, in no order."""
        return iter(self._shown)

    def record(self, chunk_id: str) -> ChunkRecord | None:
        """What a chunk is, or None where it cannot be had."""
        return self._shown.get(chunk_id)

    def generation(self) -> int:
        """A number that differs when what is shown has changed since it was last asked."""
        return self._generation

    def close(self) -> None:
        """Follow it no more."""
        self._stopped.set()
        self._thread.join()

    def _follow(self) -> None:
        while True:
            try:
                self._look()
            except Exception:  # a view that has stopped would hide new chunks for good
                logger.exception("cannot list remote %s", self._remote.connection.name)
            self._first.set()
            if self._stopped.wait(EVERY_S):
                return

    def _look(self) -> None:
        remote = self._remote
        generation, now = remote.generation(), time.monotonic()
        if not self._works():
            self._show({})
            return
        if generation != self._seen or now - self._listed_s > RELIST_S:
            ids = set(remote.ids())
            if not self._works():  # no ids is then no answer
                return
            self._take(ids)
            self._seen, self._listed_s = generation, now
        self._show(self._records)

    def _take(self, ids: set[str]) -> None:
        self._records = {key: record for key, record in self._records.items() if key in ids}
        new = [key for key in ids if key not in self._records]
        for start in range(0, len(new), AT_ONCE):
            if self._stopped.is_set():
                return
            self._records |= self._remote.records(new[start : start + AT_ONCE])
            self._show(self._records)

    def _works(self) -> bool:
        return self._remote.connection.breaker.state == CLOSED

    def _show(self, records: dict[str, ChunkRecord]) -> None:
        if records.keys() != self._shown.keys():
            self._shown = dict(records)
            self._generation += 1
