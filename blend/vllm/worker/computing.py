"""Chunks that are computed and stored by a worker: in one go, or in slices between the engine's steps."""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import NamedTuple

from blend.chunks.chunk import ChunkKV, ChunkRecord, make_record
from blend.chunks.echoes import second, twice
from blend.chunks.position_gap import halves, joined, moved
from blend.errors import CorruptChunk, StoreError
from blend.store.base import ChunkStore
from blend.vllm.engine.chunk_calls import Behind, records_of
from blend.vllm.layers.layers import LayerRunner
from blend.vllm.layers.ranks import Ranks
from blend.vllm.worker.compute import computing_chunks
from blend.vllm.worker.stores import Stores

PIECE_TOKENS = 1024
"""Run through a layer at once where nobody waits: what a CPU makes of them stays near its cores. From 512 to
2,048 it made no difference where it was measured; 4,096 took an eighth longer, 8,192 a fifth."""

SLICE_TOKENS = 128
"""The same while others decode: a decoding step reads the weights of all layers, and so takes longer than
this many tokens take in one of them. Fewer would leave the cores idle."""

NAP_S = 0.001
"""So long one look takes while a chunk is being written, so that an idle engine does not spin."""


class Stored(NamedTuple):
    """What became of chunks, in a form that vLLM's remote calls carry.

    Attributes:
        num_bytes: stored.
        kind, problem: what went wrong, as the error's class and message, or twice nothing: an exception
            would not keep its type on the way to the caller.
    """

    num_bytes: int
    kind: str = ""
    problem: str = ""


class Computing:
    """Computes the chunks of one model; one per worker process.

    Args:
        stores: where the chunks go; rank 0 writes.
    """

    def __init__(self, stores: Stores, layers: LayerRunner, ranks: Ranks) -> None:
        self._stores = stores
        self._layers = layers
        self._ranks = ranks
        self._steps: Generator[None, None, Stored] | None = None
        self._writer = ThreadPoolExecutor(1, "kvblend-write")

    def at_once(self, behind: Behind, batch: list[list[int]], namespace: str) -> Stored:
        """Compute and store chunks of a namespace, and their prefix if it is not stored."""
        done = _advance(self._compute(behind, batch, namespace, PIECE_TOKENS), lambda: True)
        assert done is not None
        return done

    def begin(self, behind: Behind, batch: list[list[int]], namespace: str) -> None:
        """Have them computed by `advance`; what was begun before and not finished is given up."""
        self._steps = self._compute(behind, batch, namespace, SLICE_TOKENS)

    def advance(self, goes_on: Callable[[], bool]) -> Stored | None:
        """One slice, and more as long as it may go on; returns what became of the chunks at the end.

        Args:
            goes_on: asked after each slice; it must say the same on all ranks.
        """
        assert self._steps is not None, "nothing was begun"
        return _advance(self._steps, goes_on)

    def _compute(
        self, behind: Behind, batch: list[list[int]], namespace: str, piece_tokens: int
    ) -> Generator[None, None, Stored]:
        scope, store = self._stores.scope(namespace), self._stores.of(namespace)
        records = records_of(scope, behind, batch)
        wanted = twice(records)
        ids, leap = wanted[0].prefix_ids, wanted[0].leap
        prefix, is_new = None, False
        if ids:
            own = make_record(scope, (), ids, leap)
            prefix, is_new = yield from self._prefix(own, store, piece_tokens)
            chunks = yield from self._behind(prefix, wanted, piece_tokens)
        else:
            chunks = yield from self._behind_nothing(wanted, piece_tokens)
        chunks = second(records, chunks)
        if prefix is not None and is_new:
            problem = yield from self._put(store, prefix)
            if problem is not None:
                return problem
        return (yield from self._put_all(store, chunks))

    def _behind(
        self, prefix: ChunkKV | None, records: Sequence[ChunkRecord], piece_tokens: int
    ) -> Generator[None, None, list[ChunkKV]]:
        return computing_chunks(records, prefix, self._layers, self._ranks, piece_tokens)

    def _behind_nothing(
        self, records: Sequence[ChunkRecord], piece_tokens: int
    ) -> Generator[None, None, list[ChunkKV]]:
        if records[0].leap is None:
            return (yield from self._behind(None, records, piece_tokens))
        chunks: list[ChunkKV] = []
        for record in records:
            chunks += [(yield from self._over_leap(record, piece_tokens))]
        return chunks

    def _over_leap(self, record: ChunkRecord, piece_tokens: int) -> Generator[None, None, ChunkKV]:
        """A chunk with a leap among its own tokens."""
        assert record.leap is not None
        layers, (before, behind) = self._layers, halves(record)
        # Computed, and not read where it is stored: there it may be of this rank's heads.
        (front,) = yield from self._behind(None, [before], piece_tokens)
        front = moved(front, record.leap.by, layers.rotary_table, layers.rotary_interleaved)
        (rest,) = yield from self._behind(front, [behind], piece_tokens)
        return joined(record, front, rest)

    def _prefix(
        self, record: ChunkRecord, store: ChunkStore, piece_tokens: int
    ) -> Generator[None, None, tuple[ChunkKV, bool]]:
        """The prefix's own KV, and whether it was computed just now."""
        try:
            chunk = store.get(record)
        except CorruptChunk:
            chunk = None
        # All ranks compute it or none: the layers' sums are collective.
        if self._ranks.all_true([chunk is not None])[0]:
            assert chunk is not None
            return chunk, False
        (computed,) = yield from self._behind_nothing([record], piece_tokens)
        return computed, True

    def _put_all(self, store: ChunkStore, chunks: Sequence[ChunkKV]) -> Generator[None, None, Stored]:
        stored = 0
        for chunk in chunks:
            yield
            problem = yield from self._put(store, chunk)
            if problem is not None:
                return problem._replace(num_bytes=stored)
            stored += chunk.num_bytes
        return Stored(stored)

    def _put(self, store: ChunkStore, chunk: ChunkKV) -> Generator[None, None, Stored | None]:
        """Rank 0 writes, and all ranks take the same steps; returns what went wrong, on all or on none.

        It is written on a thread, and this yields until that is done: no request waits for a disk.
        """
        problem, writing = None, None
        if self._ranks.rank == 0:
            writing = self._writer.submit(store.put, chunk)
        while not self._ranks.all_true([_look_up(writing)])[0]:
            yield
        try:
            if writing is not None:
                writing.result()
        except StoreError as error:
            problem = Stored(0, type(error).__name__, str(error))
        if self._ranks.all_true([problem is None])[0]:
            return None
        return problem or Stored(0, StoreError.__name__, "the rank that writes could not")


def _look_up(writing: "Future[None] | None") -> bool:
    """Whether a chunk is written; takes a moment while it is not."""
    return writing is None or not wait([writing], NAP_S).not_done


def _advance(steps: Generator[None, None, Stored], goes_on: Callable[[], bool]) -> Stored | None:
    try:
        next(steps)
        while goes_on():
            next(steps)
    except StopIteration as done:
        stored: Stored = done.value
        return stored
    return None
