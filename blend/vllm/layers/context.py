"""The cached rows of one request's context, layer by layer: stored rows of this rank's heads, realigned."""

from collections.abc import Generator, Mapping, Sequence
from typing import Protocol

import torch

from blend.chunks.chunk import ChunkRecord
from blend.maths.rope import realign_, rotation, side_by_side
from blend.plan.plan import BlendPlan, Span
from blend.select.choose import open_inexact
from blend.vllm.layers.layers import LayerRunner
from blend.vllm.layers.ranks import Ranks
from blend.vllm.layers.shelf import Loaded, Shelf
from blend.vllm.messages import BlendTask
from blend.vllm.worker.clock import Clock
from blend.vllm.worker.reading import ChunkLayers, Reading, Rows, until_there

MAX_AHEAD_BYTES = 256 << 20
"""Of rows that the question probe has realigned and that wait for recomputing, a blend's."""


def wanted_spans(plan: BlendPlan, first: int) -> list[Span]:
    """Spans whose chunks a blend needs that asks for rows from `first` on."""
    return [span for span in plan.spans if span.stop > first]


class ChunkLost(Exception):
    """A chunk was found, and could not be read to its end: the blend begins anew without it."""


class Context(Protocol):
    """The cached rows of a plan: what they are at a layer, and how good.

    Attributes:
        start: first row that is to be filled; those before it lie in the engine's pages.
        cold: bool [N - start], rows of which nothing is cached.
        cold_from_first: bool [N], the same of all rows.
        computed: bool [N], rows that were computed for this very context.
        unreadable: ids of chunks that were planned but could not be read.
        exact_from_first: bool [N], rows that equal a full prefill's.
        is_known_before_start: whether every row before the start is at hand here and the same as in the
            engine's pages.
    """

    plan: BlendPlan
    start: int
    cold: torch.Tensor
    cold_from_first: torch.Tensor
    computed: torch.Tensor
    exact_from_first: torch.Tensor
    unreadable: tuple[str, ...]

    @property
    def is_known_before_start(self) -> bool: ...

    def covered(self) -> torch.Tensor:
        """Context positions of which there are cached rows: int64 [M], ascending."""

    def ready(self, layer: int, clock: Clock) -> Generator[None, None, None]:
        """Yields until a layer's rows are there to be asked for.

        Raises:
            ChunkLost: they will never be.
        """

    def at_layer(self, layer: int, first: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values [N - first, H, D], the caller's to write to; cold rows are zero.

        Args:
            first: the first row wanted; the task's start unless given.
        """

    def covered_at_layer(self, layer: int, room: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values [M + room, H, D]: of the positions `covered`, not to be written to, and then room.

        Args:
            room: rows of no content, the caller's to write to.
        """


class StoredContext:
    """The rows of a plan's chunks, realigned to their places; implements `Context`.

    Args:
        task: what is to be blended.
        wanted: spans of the plan whose chunks are read, see `wanted_spans`; rows of others count as cold.
        reading: of these chunks, open: what it has not found, or lost, is cold.
    """

    def __init__(
        self,
        task: BlendTask,
        wanted: Sequence[Span],
        reading: Reading,
        runner: LayerRunner,
        ranks: Ranks,
    ) -> None:
        self._runner = runner
        self._ranks = ranks
        self._reading = reading
        self._lost = reading.lost
        found = reading.chunks([span.record for span in wanted])
        echoes = self._echoes(wanted)
        self.plan = task.plan
        self.start = task.start
        # A chunk that one rank cannot read is cold on all: the ranks must select the same tokens.
        readable = ranks.all_true([chunk is not None for chunk in found])
        unreadable = [s.record.chunk_id for s, ok in zip(wanted, readable, strict=True) if not ok]
        self.unreadable = (*unreadable, *(key for key, echo in echoes.items() if echo is None))
        whole = ranks.all_true([chunk is None or chunk.is_lossless for chunk in found])
        # Spans before the start too, where they were asked for.
        self._loaded = [
            self._place(span, span.record, chunk, is_lossless=lossless, echo=self._echo(span, echoes))
            for span, chunk, ok, lossless in zip(wanted, found, readable, whole, strict=True)
            if ok and chunk is not None
        ]
        self._shelves: dict[int, Shelf] = {}
        self._ahead: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._ahead_bytes = 0
        covered = self.covered()
        self.cold_from_first = torch.ones(task.plan.num_tokens, dtype=torch.bool)
        self.cold_from_first[covered] = False
        self.cold = self.cold_from_first[self.start :]
        self.computed = torch.zeros(task.plan.num_tokens, dtype=torch.bool)
        self.exact_from_first = torch.zeros(task.plan.num_tokens, dtype=torch.bool)
        for one in self._loaded:
            self.exact_from_first[one.span.start : self._stop(one)] = one.is_exact
        self.plan = open_inexact(task.plan, self.exact_from_first, task.ratio)

    def _echoes(self, wanted: Sequence[Span]) -> dict[str, ChunkLayers | None]:
        """What was found of echoes, by their ids; None on all ranks for what one of them cannot read."""
        records = {span.again.record.chunk_id: span.again.record for span in wanted if span.again}
        found = self._reading.chunks(list(records.values()))
        readable = self._ranks.all_true([chunk is not None for chunk in found])
        return {key: chunk if ok else None for key, chunk, ok in zip(records, found, readable, strict=True)}

    def _echo(self, span: Span, echoes: Mapping[str, ChunkLayers | None]) -> Loaded | None:
        """A span's echo; what is lacking of it is taken from the chunk itself."""
        record = None if span.again is None else span.again.record
        chunk = None if record is None else echoes[record.chunk_id]
        if record is None or chunk is None:
            return None
        return self._place(span, record, chunk, is_lossless=False)

    def _place(
        self,
        span: Span,
        record: ChunkRecord,
        chunk: ChunkLayers,
        *,
        is_lossless: bool,
        echo: Loaded | None = None,
    ) -> Loaded:
        turn = rotation(self._runner.rotary_table, span.start - record.offset)
        return Loaded(span, chunk, turn, is_lossless, echo)

    def ready(self, layer: int, clock: Clock) -> Generator[None, None, None]:
        """Yields until a layer's rows are there; on all ranks or none.

        Raises:
            ChunkLost: a chunk will not come to its end, and what was made of its first layers is in vain.
        """
        if self._reading.is_whole:
            return
        # Of a chunk that is lost no layer is waited for, so that this ends.
        (good,) = yield from until_there(
            lambda: [self._reading.has(layer), self._reading.lost == self._lost], self._ranks, clock
        )
        if not good:
            raise ChunkLost

    def covered(self) -> torch.Tensor:
        """Context positions of which there are cached rows: int64 [M], ascending."""
        spans = [torch.arange(one.span.start, self._stop(one)) for one in self._loaded]
        return torch.cat([torch.empty(0, dtype=torch.int64), *spans])

    @property
    def is_known_before_start(self) -> bool:
        """Whether every row before the start is at hand here and the same as in the engine's pages."""
        exact = sum(
            min(self._stop(one), self.start) - one.span.start
            for one in self._loaded
            if one.is_exact and one.span.start < self.start
        )
        return exact == self.start

    def _stop(self, one: Loaded) -> int:
        return min(one.span.stop, self.plan.num_tokens)

    def at_layer(self, layer: int, first: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Realigned keys and values [N - first, H, D], the caller's to write to; cold rows are zero.

        What `covered_at_layer` has realigned is given away, not realigned again.

        Args:
            first: the first row wanted; the task's start unless given.
        """
        shelf = self._shelf(self.start if first is None else first)
        ahead = self._ahead.pop(layer, None)
        if ahead is None:
            keys, values = self._cached_rows(layer, shelf)
        else:
            self._ahead_bytes -= _nbytes(ahead)
            stop = len(self._shelf(0).rows)  # room behind it is of no use any more
            keys, values = (rows[stop - len(shelf.rows) : stop] for rows in ahead)
        return shelf.place(keys), shelf.place(values)

    def covered_at_layer(self, layer: int, room: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Realigned keys and values [M + room, H, D], see `Context`; `at_layer` may give them away."""
        rows = self._cached_rows(layer, self._shelf(0), room)
        if layer not in self._ahead and self._ahead_bytes + _nbytes(rows) <= MAX_AHEAD_BYTES:
            self._ahead[layer] = rows
            self._ahead_bytes += _nbytes(rows)
        return rows

    def _cached_rows(self, layer: int, shelf: Shelf, room: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Realigned rows of a shelf, and room behind them, in memory of their own."""
        runner, num_rows = self._runner, len(shelf.rows)
        shape = (num_rows + room, runner.num_kv_heads, runner.head_size)
        keys, values = (torch.empty(shape, dtype=runner.dtype, device=runner.device) for _ in range(2))
        if shelf.turn is not None:
            # Each part by itself: what lies on the device already is not moved, whatever stands beside it.
            parts = [self._rows_of(one, layer, own) for one, own in shelf.parts]
            for into, rows in zip((keys, values), zip(*parts, strict=True), strict=True):
                torch.cat(rows, out=into[:num_rows])
            realign_(keys[:num_rows], shelf.turn, interleaved=runner.rotary_interleaved)
        return keys, values

    def _rows_of(self, one: Loaded, layer: int, own: slice) -> Rows:
        """Some rows of this rank's heads of a chunk, on the device."""
        runner = self._runner
        keys, values = (
            self._ranks.own_heads(rows, runner.num_kv_heads)[own].to(runner.device, runner.dtype)
            for rows in one.chunk.layer(layer)
        )
        return keys, values

    def _shelf(self, first: int) -> Shelf:
        if first not in self._shelves:
            self._shelves[first] = self._make_shelf(first)
        return self._shelves[first]

    def _make_shelf(self, first: int) -> Shelf:
        parts: list[tuple[Loaded, slice]] = []
        rows = [torch.empty(0, dtype=torch.int64)]
        for one in self._loaded:
            begin, stop = max(one.span.start, first), self._stop(one)
            if begin < stop:
                # Positions begin .. stop of the context are rows begin - span.start .. of the chunk.
                parts += one.parts(slice(begin - one.span.start, stop - one.span.start))
                rows.append(torch.arange(begin - first, stop - first))
        turn = side_by_side([(one.turn, own.stop - own.start) for one, own in parts]) if parts else None
        return Shelf(
            tuple(parts), turn, torch.cat(rows).to(self._runner.device), self.plan.num_tokens - first
        )


def _nbytes(rows: tuple[torch.Tensor, torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in rows)
