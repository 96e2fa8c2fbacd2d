"""Reading the chunks of a blend: layer by layer beside the engine's steps, where a store may ask a server."""

import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial
from threading import Condition, Thread
from typing import Protocol, TypeVar

import torch

from blend.chunks.chunk import ChunkRecord
from blend.errors import CorruptChunk
from blend.store.handle import ChunkHandle
from blend.store.tiers.shared_reads import ChunkSource
from blend.vllm.layers.ranks import Ranks
from blend.vllm.worker.clock import Clock

logger = logging.getLogger(__name__)

MAX_THREADS = 8
NAP_S = 0.001
"""So long one look takes while chunks are on their way, so that an idle engine does not spin."""
SLICE_S = 0.02
"""So long one look reads where no threads do: unpacking all chunks takes longer than a step may."""

T = TypeVar("T")

Rows = tuple[torch.Tensor, torch.Tensor]
"""Keys and values [T, H, D] of one layer."""


class ChunkLayers(Protocol):
    """What a blend takes of a chunk; every `blend.store.handle.ChunkHandle` is one."""

    @property
    def is_lossless(self) -> bool: ...

    def layer(self, index: int) -> Rows:
        """Keys and values [T, H, D] of a layer that is there."""


class _Coming:
    """A chunk whose layers come one after the other."""

    def __init__(self, reader: ChunkHandle, num_layers: int) -> None:
        self.reader = reader
        self.rows: list[Rows | None] = [None] * num_layers
        self.is_lossless = reader.is_lossless

    def layer(self, index: int) -> Rows:
        rows = self.rows[index]
        assert rows is not None, "whoever asks has looked whether it is there"
        return rows


class Reading:
    """Chunks on their way. Nothing that goes wrong with one is raised: it is absent, or lost, and computed.

    While a blend computes layer i, layer i + 1 of all its chunks is read, and so on to the last.

    Args:
        records: what is read, each once.
        num_layers: of the model.
        beside: on threads of their own; how long that may take is the store's to bound. Else they are read
            whole by those who look whether they are there.

    Attributes:
        is_whole: whether no layer is waited for once every chunk was found.
    """

    def __init__(
        self,
        store: ChunkSource,
        records: Iterable[ChunkRecord],
        num_layers: int,
        *,
        beside: bool,
    ) -> None:
        self._store = store
        self._to_open = list({record.chunk_id: record for record in records}.values())
        self._num_opening = len(self._to_open)  # those not begun included
        self._found: dict[str, ChunkLayers] = {}
        self._coming: dict[str, _Coming] = {}
        self._lost: set[str] = set()
        self._lacking = [0] * num_layers  # chunks whose layer is not there
        self._order: Iterator[tuple[int, str]] | None = None
        self._changed = Condition()
        self._is_over = False
        self.is_whole = not beside
        for _ in range(min(MAX_THREADS, len(self._to_open)) if beside else 0):
            Thread(target=self._read_on, name="kvblend-read", daemon=True).start()

    @property
    def lost(self) -> frozenset[str]:
        """Ids of chunks that were found, and then could not be read to their end."""
        with self._changed:
            return frozenset(self._lost)

    def is_open(self) -> bool:
        """Whether every chunk was found, or is known not to come; takes a moment while not."""
        if self.is_whole:
            self._read_some()
        with self._changed:
            return self._changed.wait_for(lambda: not self._num_opening, 0 if self.is_whole else NAP_S)

    def has(self, layer: int) -> bool:
        """Whether this layer of every chunk that is not lost is there; takes a moment while not."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._num_opening and not self._lacking[layer],
                NAP_S,
            )

    def chunks(self, records: Sequence[ChunkRecord]) -> list[ChunkLayers | None]:
        """What was found, None for what was not, or is lost; only when it is open."""
        with self._changed:
            assert not self._num_opening
            return [
                None if record.chunk_id in self._lost else self._found.get(record.chunk_id)
                for record in records
            ]

    def end(self) -> None:
        """Read no more: nobody waits for it."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _lose(self, key: str) -> None:
        if key in self._lost:
            return
        self._lost.add(key)
        for layer, rows in enumerate(self._coming[key].rows):
            self._lacking[layer] -= rows is None

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
        """What is to be done next: all chunks are found before the first layer of one is read."""
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
        for layer in range(len(self._lacking)):
            for key in self._coming:
                if key not in self._lost:
                    yield layer, key

    def _open(self, record: ChunkRecord) -> None:
        reader = _try(record, partial(self._store.open, record))
        with self._changed:
            if self._is_over:
                return
            self._num_opening -= 1
            if reader is not None:
                one = _Coming(reader, len(self._lacking))
                self._found[record.chunk_id] = self._coming[record.chunk_id] = one
                self._lacking = [lacking + 1 for lacking in self._lacking]
            self._changed.notify_all()

    def _read(self, layer: int, key: str) -> None:
        one = self._coming[key]
        rows = _try(one.reader.record, partial(one.reader.layer, layer))
        with self._changed:
            if rows is None:
                self._lose(key)
            elif key not in self._lost:
                one.rows[layer] = rows
                self._lacking[layer] -= 1
            self._changed.notify_all()


def until_there(
    look: Callable[[], list[bool]], ranks: Ranks, clock: Clock
) -> Generator[None, None, list[bool]]:
    """Yields until the first thing that is looked for is there on all ranks.

    Returns:
        What else was looked for, each where it holds on all ranks.
    """
    while True:
        with clock.time("load"):
            there, *others = ranks.all_true(look())
        if there:
            return others
        yield


def _try(record: ChunkRecord, read: Callable[[], T | None]) -> T | None:
    try:
        return read()
    except CorruptChunk:
        return None  # dropped and counted by the store; the rows are computed cold
    except Exception:  # a rank that raised here would leave the others waiting for its vote
        logger.exception("cannot read chunk %s; it is computed", record.chunk_id)
        return None
