"""Reads the chunks of a blend: whole between engine steps, or layer by layer in the background."""

import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial
from threading import Condition, Thread
from typing import Protocol, TypeVar

from blend.chunks.chunk import ChunkRecord
from blend.errors import CorruptChunk
from blend.report.stats import StageClock
from blend.store.handle import ChunkHandle
from blend.store.tiers.shared_reads import ChunkSource
from blend.vllm.job.context import Rows
from blend.vllm.layers.ranks import Ranks

logger = logging.getLogger(__name__)

MAX_THREADS = 8
POLL_S = 0.001
"""Time that a check waits for chunks that are still being read, so that an idle engine does not spin."""
SLICE_S = 0.02
"""Time that a check spends on reading where no threads read: unpacking all chunks takes longer than a step
may."""

T = TypeVar("T")


class ChunkLayers(Protocol):
    """What a blend needs of a chunk; every `blend.store.handle.ChunkHandle` is one."""

    @property
    def is_lossless(self) -> bool: ...

    def layer(self, index: int) -> Rows:
        """Keys and values [T, H, D] of a layer that has been read."""


class _LayerwiseChunk:
    """A chunk whose layers are read one after the other."""

    def __init__(self, reader: ChunkHandle, num_layers: int) -> None:
        self.reader = reader
        self.rows: list[Rows | None] = [None] * num_layers
        self.is_lossless = reader.is_lossless

    def layer(self, index: int) -> Rows:
        rows = self.rows[index]
        assert rows is not None, "a layer is asked for only after `has` returned True"
        return rows


class Reading:
    """The chunks of one blend while they are read. Never raises: a chunk that fails is absent or lost, and
    its rows are computed.

    In the background, layer i + 1 of all chunks is read while the blend computes layer i.

    Args:
        records: the chunks; duplicates are read once.
        num_layers: of the model.
        background: read layer by layer on threads; the store bounds how long that takes. Otherwise `is_open`
            reads whole chunks on the caller's thread, a slice at each call.

    Attributes:
        is_whole: whether every layer can be used as soon as all chunks are open.
    """

    def __init__(
        self,
        store: ChunkSource,
        records: Iterable[ChunkRecord],
        num_layers: int,
        *,
        background: bool,
    ) -> None:
        self._store = store
        self._to_open = list({record.chunk_id: record for record in records}.values())
        self._num_opening = len(self._to_open)  # chunks not begun yet are included
        self._found: dict[str, ChunkLayers] = {}
        self._layerwise: dict[str, _LayerwiseChunk] = {}
        self._lost: set[str] = set()
        self._missing = [0] * num_layers  # chunks whose layer has not been read
        self._order: Iterator[tuple[int, str]] | None = None
        self._changed = Condition()
        self._is_over = False
        self.is_whole = not background
        for _ in range(min(MAX_THREADS, len(self._to_open)) if background else 0):
            Thread(target=self._read_on, name="kvblend-read", daemon=True).start()

    @property
    def lost(self) -> frozenset[str]:
        """Ids of chunks that were found, but could not be read to their end."""
        with self._changed:
            return frozenset(self._lost)

    def is_open(self) -> bool:
        """Whether every chunk is found or known to be absent; takes a moment while that is not so."""
        if self.is_whole:
            self._read_some()
        with self._changed:
            return self._changed.wait_for(lambda: not self._num_opening, 0 if self.is_whole else POLL_S)

    def has(self, layer: int) -> bool:
        """Whether this layer of every chunk that is not lost has been read; takes a moment while not."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._num_opening and not self._missing[layer],
                POLL_S,
            )

    def chunks(self, records: Sequence[ChunkRecord]) -> list[ChunkLayers | None]:
        """The chunks, None for absent and lost ones; call it only after `is_open` returned True."""
        with self._changed:
            assert not self._num_opening
            return [
                None if record.chunk_id in self._lost else self._found.get(record.chunk_id)
                for record in records
            ]

    def end(self) -> None:
        """Stop reading: the blend has ended."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _lose(self, key: str) -> None:
        if key in self._lost:
            return
        self._lost.add(key)
        for layer, rows in enumerate(self._layerwise[key].rows):
            self._missing[layer] -= rows is None

    def _read_some(self) -> None:
        until = time.perf_counter() + SLICE_S
        while self._to_open and time.perf_counter() < until:
            record = self._to_open.pop()
            chunk = _try(record, partial(self._store.get, record))
            if chunk is not None:
                self._found[record.chunk_id] = ChunkHandle(chunk)
            self._num_opening -= 1

    def _read_on(self) -> None:
        while (work := self._next()) is not None:
            work()

    def _next(self) -> Callable[[], None] | None:
        """The next piece of work for a thread: all chunks are opened before the first layer is read."""
        with self._changed:
            while not self._is_over:
                if self._to_open:
                    return partial(self._open, self._to_open.pop())
                if not self._num_opening:
                    self._order = self._order or self._layer_by_layer()
                    layer, key = next(self._order, (0, ""))
                    return partial(self._read, layer, key) if key else None
                self._changed.wait()
        return None

    def _layer_by_layer(self) -> Iterator[tuple[int, str]]:
        for layer in range(len(self._missing)):
            for key in self._layerwise:
                if key not in self._lost:
                    yield layer, key

    def _open(self, record: ChunkRecord) -> None:
        reader = _try(record, partial(self._store.open, record))
        with self._changed:
            if self._is_over:
                return
            self._num_opening -= 1
            if reader is not None:
                chunk = _LayerwiseChunk(reader, len(self._missing))
                self._found[record.chunk_id] = self._layerwise[record.chunk_id] = chunk
                self._missing = [missing + 1 for missing in self._missing]
            self._changed.notify_all()

    def _read(self, layer: int, key: str) -> None:
        chunk = self._layerwise[key]
        rows = _try(chunk.reader.record, partial(chunk.reader.layer, layer))
        with self._changed:
            if rows is None:
                self._lose(key)
            elif key not in self._lost:
                chunk.rows[layer] = rows
                self._missing[layer] -= 1
            self._changed.notify_all()


def wait_for(
    check: Callable[[], list[bool]], ranks: Ranks, clock: StageClock
) -> Generator[None, None, list[bool]]:
    """Yields until the first of the checked conditions holds on all ranks.

    Returns:
        For each of the other conditions, whether it holds on all ranks.
    """
    while True:
        with clock.time("load"):
            is_done, *others = ranks.all_true(check())
        if is_done:
            return others
        yield


def _try(record: ChunkRecord, read: Callable[[], T | None]) -> T | None:
    try:
        return read()
    except CorruptChunk:
        return None  # the store drops and counts it; its rows are computed cold
    except Exception:  # raising here would leave the other ranks waiting for this rank's vote
        logger.exception("cannot read chunk %s: its tokens are computed instead", record.chunk_id)
        return None
