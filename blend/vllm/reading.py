"""Reading the chunks of a blend, beside the engine's steps where a store may have to ask a server."""

import logging
from collections.abc import Iterable, Sequence
from threading import Event, Lock, Thread

from blend.chunk import ChunkKV, ChunkRecord
from blend.errors import CorruptChunk
from blend.store.shared_reads import ChunkSource

logger = logging.getLogger(__name__)

MAX_THREADS = 8
NAP_S = 0.001
"""So long one look takes while chunks are on their way, so that an idle engine does not spin."""


class Reading:
    """Chunks on their way. Nothing that goes wrong with one is raised: it is absent, and computed.

    Args:
        records: what is read, each once.
        beside: on threads of its own, all at once; else it is done when this returns.
    """

    def __init__(self, store: ChunkSource, records: Iterable[ChunkRecord], *, beside: bool) -> None:
        self._store = store
        self._left = list({record.chunk_id: record for record in records}.values())
        self._found: dict[str, ChunkKV | None] = {}
        self._num_records = len(self._left)
        self._lock = Lock()
        self._done = Event()
        if not beside or not self._left:
            self._read_on()
            return
        for _ in range(min(MAX_THREADS, self._num_records)):
            Thread(target=self._read_on, name="kvblend-read", daemon=True).start()

    def is_done(self) -> bool:
        """Whether every chunk is there, or known not to come; takes a moment while not."""
        return self._done.wait(NAP_S)

    def chunks(self, records: Sequence[ChunkRecord]) -> list[ChunkKV | None]:
        """What was read, None for what could not be; only when it is done."""
        assert self._done.is_set()
        return [self._found[record.chunk_id] for record in records]

    def _read_on(self) -> None:
        while True:
            with self._lock:
                if len(self._found) == self._num_records:
                    self._done.set()
                if not self._left:
                    return
                record = self._left.pop()
            chunk = _read(self._store, record)
            with self._lock:
                self._found[record.chunk_id] = chunk


def _read(store: ChunkSource, record: ChunkRecord) -> ChunkKV | None:
    try:
        return store.get(record)
    except CorruptChunk:
        return None  # dropped and counted by the store; the rows are computed cold
    except Exception:  # a rank that raised here would leave the others waiting for its vote
        logger.exception("cannot read chunk %s; it is computed", record.chunk_id)
        return None
