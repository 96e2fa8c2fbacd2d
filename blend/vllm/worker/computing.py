"""Computes the KV of chunks through the engine's own layers and stores it: in one go, or in slices."""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import NamedTuple

from blend.chunks.chunk import ChunkKV, ChunkRecord, make_record
from blend.chunks.parts import double_reads, halves, join, move_back, second_reads
from blend.errors import CorruptChunk, StoreError
from blend.store.base import ChunkStore
from blend.vllm.layers.layers import LayerRunner
from blend.vllm.layers.ranks import Ranks
from blend.vllm.worker.chunk_calls import Behind, records_of
from blend.vllm.worker.chunk_kv import computing_chunks
from blend.vllm.worker.stores import Stores

PIECE_TOKENS = 1024
"""Tokens per layer call when no request waits. Chosen so that activations stay in the CPU's cache: 512 to
2,048 measured the same; 4,096 took an eighth longer, 8,192 a fifth."""

SLICE_TOKENS = 128
"""Tokens per layer call while requests decode. A decoding step reads the weights of all layers, so it takes
longer than one layer over this many tokens. Fewer tokens would leave cores idle."""

POLL_S = 0.001
"""Time that a check waits for a chunk that is being written, so that an idle engine does not spin."""


class Stored(NamedTuple):
    """The result of storing chunks, in a form that vLLM's remote calls carry.

    Attributes:
        num_bytes: bytes that were stored.
        kind, problem: class and message of the error, or twice "": an exception would lose its type on the
            way to the caller.
    """

    num_bytes: int
    kind: str = ""
    problem: str = ""


class Computing:
    """Computes and stores the chunks of one model; one per worker process.

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
        stored = _advance(self._compute(behind, batch, namespace, PIECE_TOKENS), lambda: True)
        assert stored is not None
        return stored

    def begin(self, behind: Behind, batch: list[list[int]], namespace: str) -> None:
        """Prepare the same for `advance`; chunks begun before and not finished are given up."""
        self._steps = self._compute(behind, batch, namespace, SLICE_TOKENS)

    def advance(self, may_go_on: Callable[[], bool]) -> Stored | None:
        """Compute a slice, and more while that is allowed; returns the result once all chunks are stored.

        Args:
            may_go_on: asked after each slice; must answer the same on all ranks.
        """
        assert self._steps is not None, "`begin` was not called"
        return _advance(self._steps, may_go_on)

    def _compute(
        self, behind: Behind, batch: list[list[int]], namespace: str, piece_tokens: int
    ) -> Generator[None, None, Stored]:
        scope, store = self._stores.scope(namespace), self._stores.of(namespace)
        records = records_of(scope, behind, batch)
        wanted = double_reads(records)
        prefix_ids, position_gap = wanted[0].prefix_ids, wanted[0].position_gap
        prefix, is_new = None, False
        if prefix_ids:
            prefix_record = make_record(scope, (), prefix_ids, position_gap)
            prefix, is_new = yield from self._prefix(prefix_record, store, piece_tokens)
            chunks = yield from self._behind(prefix, wanted, piece_tokens)
        else:
            chunks = yield from self._behind_nothing(wanted, piece_tokens)
        chunks = second_reads(records, chunks)
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
        if records[0].position_gap is None:
            return (yield from self._behind(None, records, piece_tokens))
        chunks: list[ChunkKV] = []
        for record in records:
            chunks += [(yield from self._across_gap(record, piece_tokens))]
        return chunks

    def _across_gap(self, record: ChunkRecord, piece_tokens: int) -> Generator[None, None, ChunkKV]:
        """A chunk with a position gap among its own tokens."""
        assert record.position_gap is not None
        layers, (front_record, rest_record) = self._layers, halves(record)
        # Computed here even if the store has it: the stored copy may hold this rank's heads only.
        (front,) = yield from self._behind(None, [front_record], piece_tokens)
        front = move_back(front, record.position_gap.by, layers.rotary_table, layers.rotary_interleaved)
        (rest,) = yield from self._behind(front, [rest_record], piece_tokens)
        return join(record, front, rest)

    def _prefix(
        self, record: ChunkRecord, store: ChunkStore, piece_tokens: int
    ) -> Generator[None, None, tuple[ChunkKV, bool]]:
        """The prefix's own KV, and whether it had to be computed."""
        try:
            # A memory tier may hold a prefix that another process has removed from the disk.
            chunk = store.get(record) if record.chunk_id in store else None
        except CorruptChunk:
            chunk = None
        # All ranks compute it or none: the layers' sums are collective.
        if self._ranks.all_true([chunk is not None])[0]:
            assert chunk is not None
            return chunk, False
        (computed,) = yield from self._behind_nothing([record], piece_tokens)
        return computed, True

    def _put_all(self, store: ChunkStore, chunks: Sequence[ChunkKV]) -> Generator[None, None, Stored]:
        num_bytes = 0
        for chunk in chunks:
            yield
            problem = yield from self._put(store, chunk)
            if problem is not None:
                return problem._replace(num_bytes=num_bytes)
            num_bytes += chunk.num_bytes
        return Stored(num_bytes)

    def _put(self, store: ChunkStore, chunk: ChunkKV) -> Generator[None, None, Stored | None]:
        """Rank 0 writes while all ranks take the same steps; returns the problem on all ranks, or None on
        all.

        A thread writes, and this yields until it is done: no request waits for a disk.
        """
        problem, writing = None, None
        if self._ranks.rank == 0:
            writing = self._writer.submit(store.put, chunk)
        while not self._ranks.all_true([_is_written(writing)])[0]:
            yield
        try:
            if writing is not None:
                writing.result()
        except StoreError as error:
            problem = Stored(0, type(error).__name__, str(error))
        if self._ranks.all_true([problem is None])[0]:
            return None
        return problem or Stored(0, StoreError.__name__, "rank 0 could not write the chunk; see its log")


def _is_written(writing: "Future[None] | None") -> bool:
    """Whether a chunk is written; takes a moment while it is not."""
    return writing is None or not wait([writing], POLL_S).not_done


def _advance(steps: Generator[None, None, Stored], may_go_on: Callable[[], bool]) -> Stored | None:
    try:
        next(steps)
        while may_go_on():
            next(steps)
    except StopIteration as done:
        stored: Stored = done.value
        return stored
    return None
