"""A context whose rows come from the store: read, realigned and gathered layer by layer."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from blend.chunks.chunk import ChunkRecord
from blend.maths.rope import Rotation, realign_, rotation, side_by_side
from blend.plan.plan import BlendPlan, Span
from blend.report.stats import StageClock
from blend.select.choose import open_inexact
from blend.vllm.job.context import ChunkLost, Rows
from blend.vllm.job.reading import ChunkLayers, Reading, wait_for
from blend.vllm.layers.layers import LayerRunner
from blend.vllm.layers.ranks import Ranks
from blend.vllm.messages import BlendTask

MAX_AHEAD_BYTES = 256 << 20
"""Cap, per blend, on realigned rows held between the question probe and the recompute pass."""


def wanted_spans(plan: BlendPlan, first: int) -> list[Span]:
    """Spans whose chunks a blend must read when it needs rows from `first` on."""
    return [span for span in plan.spans if span.stop > first]


@dataclass(frozen=True, slots=True)
class StoredSpan:
    """A span of the plan with its stored KV.

    Attributes:
        rotation: from the positions that the chunk was computed at to its positions in this context.
        is_lossless: whether the stored numbers are the ones that were computed.
        echo: the chunk's echo with its own rotation, for the rows that the plan takes from it.
    """

    span: Span
    chunk: ChunkLayers
    rotation: Rotation
    is_lossless: bool
    echo: "StoredSpan | None" = None

    @property
    def is_exact(self) -> bool:
        """Whether its rows equal a full prefill's: exact in the plan, and stored without loss."""
        return self.span.exact and self.is_lossless

    def parts(self, rows: slice) -> Iterator[tuple["StoredSpan", slice]]:
        """Cut some of the chunk's rows into parts, each with the version it is taken from; in order."""
        at, echoed = rows.start, self.span.echoed
        if echoed is not None and self.echo is not None:
            for first, stop in echoed.rows:
                first, stop = max(first, at), min(stop, rows.stop)
                if first < stop:
                    if at < first:
                        yield self, slice(at, first)
                    yield self.echo, slice(first, stop)
                    at = stop
        if at < rows.stop:
            yield self, slice(at, rows.stop)


@dataclass(frozen=True, slots=True)
class GatherPlan:
    """Which stored rows, with which rotation, fill which context rows; the same for all layers.

    Attributes:
        parts: versions of chunks with the rows taken from each, in the order of the context.
        rotation: of all these rows; None when there are none.
        targets: int64 [M], context rows that they fill, counted from the first row wanted.
        num_rows: of the result.
    """

    parts: tuple[tuple[StoredSpan, slice], ...]
    rotation: Rotation | None
    targets: torch.Tensor
    num_rows: int

    def scatter(self, covered: torch.Tensor) -> torch.Tensor:
        """Put rows [M, H, D] at their targets, zeros elsewhere: [num_rows, H, D]."""
        if covered.shape[0] == self.num_rows:
            return covered
        scattered = covered.new_zeros(self.num_rows, *covered.shape[1:])
        return scattered.index_copy_(0, self.targets, covered)


class StoredContext:
    """The rows of a plan's chunks, realigned to their positions; implements `Context`.

    Args:
        task: what is to be blended.
        wanted: spans of the plan whose chunks are read, see `wanted_spans`; all other rows count as cold.
        reading: of these chunks, open: chunks that it did not find, or lost, are cold.
    """

    def __init__(
        self, task: BlendTask, wanted: Sequence[Span], reading: Reading, runner: LayerRunner, ranks: Ranks
    ) -> None:
        self._runner = runner
        self._ranks = ranks
        self._reading = reading
        self._lost = reading.lost
        found = reading.chunks([span.record for span in wanted])
        echoes = self._find_echoes(wanted)
        self.plan = task.plan
        self.start = task.start
        # A chunk that one rank cannot read is cold on all ranks: they must select the same tokens.
        readable = ranks.all_true([chunk is not None for chunk in found])
        unreadable = [s.record.chunk_id for s, ok in zip(wanted, readable, strict=True) if not ok]
        self.unreadable = (*unreadable, *(key for key, echo in echoes.items() if echo is None))
        lossless = ranks.all_true([chunk is None or chunk.is_lossless for chunk in found])
        # Spans before the start are included where they were asked for.
        self._spans = [
            self._stored(span, span.record, chunk, is_lossless=whole, echo=self._echo(span, echoes))
            for span, chunk, ok, whole in zip(wanted, found, readable, lossless, strict=True)
            if ok and chunk is not None
        ]
        self._gather_plans: dict[int, GatherPlan] = {}
        self._ahead: dict[int, Rows] = {}
        self._ahead_bytes = 0
        covered = self.covered()
        self.cold_from_first = torch.ones(task.plan.num_tokens, dtype=torch.bool)
        self.cold_from_first[covered] = False
        self.cold = self.cold_from_first[self.start :]
        self.computed = torch.zeros(task.plan.num_tokens, dtype=torch.bool)
        self.exact_from_first = torch.zeros(task.plan.num_tokens, dtype=torch.bool)
        for stored in self._spans:
            self.exact_from_first[stored.span.start : self._stop(stored)] = stored.is_exact
        self.plan = open_inexact(task.plan, self.exact_from_first, task.ratio)

    def _find_echoes(self, wanted: Sequence[Span]) -> dict[str, ChunkLayers | None]:
        """Echoes by id; None on all ranks for an echo that one of them cannot read."""
        records = {span.echoed.record.chunk_id: span.echoed.record for span in wanted if span.echoed}
        found = self._reading.chunks(list(records.values()))
        readable = self._ranks.all_true([chunk is not None for chunk in found])
        return {key: chunk if ok else None for key, chunk, ok in zip(records, found, readable, strict=True)}

    def _echo(self, span: Span, echoes: Mapping[str, ChunkLayers | None]) -> StoredSpan | None:
        """A span's echo; without it, the rows are taken from the chunk itself."""
        record = None if span.echoed is None else span.echoed.record
        chunk = None if record is None else echoes[record.chunk_id]
        if record is None or chunk is None:
            return None
        return self._stored(span, record, chunk, is_lossless=False)

    def _stored(
        self,
        span: Span,
        record: ChunkRecord,
        chunk: ChunkLayers,
        *,
        is_lossless: bool,
        echo: StoredSpan | None = None,
    ) -> StoredSpan:
        moved = rotation(self._runner.rotary_table, span.start - record.offset)
        return StoredSpan(span, chunk, moved, is_lossless, echo)

    def ready(self, layer: int, clock: StageClock) -> Generator[None, None, None]:
        """Yields until the rows of a layer are read, on all ranks or none.

        Raises:
            ChunkLost: a chunk cannot be read to its end, which wastes what was made of its first layers.
        """
        if self._reading.is_whole:
            return
        # No layer of a lost chunk is waited for, so this loop ends.
        (good,) = yield from wait_for(
            lambda: [self._reading.has(layer), self._reading.lost == self._lost], self._ranks, clock
        )
        if not good:
            raise ChunkLost

    def covered(self) -> torch.Tensor:
        """Context positions that have cached rows: int64 [M], ascending."""
        spans = [torch.arange(stored.span.start, self._stop(stored)) for stored in self._spans]
        return torch.cat([torch.empty(0, dtype=torch.int64), *spans])

    @property
    def is_known_before_start(self) -> bool:
        """Whether every row before the start is cached here, the same as in the engine's pages."""
        exact = sum(
            min(self._stop(stored), self.start) - stored.span.start
            for stored in self._spans
            if stored.is_exact and stored.span.start < self.start
        )
        return exact == self.start

    def _stop(self, stored: StoredSpan) -> int:
        return min(stored.span.stop, self.plan.num_tokens)

    def at_layer(self, layer: int, first: int | None = None) -> Rows:
        """Realigned keys and values [N - first, H, D], which the caller may write to; cold rows are zero.

        Rows that `covered_at_layer` realigned are handed over instead of being realigned again.

        Args:
            first: the first row wanted; the task's start unless given.
        """
        gather = self._gather_plan(self.start if first is None else first)
        ahead = self._ahead.pop(layer, None)
        if ahead is None:
            keys, values = self._cached_rows(layer, gather)
        else:
            self._ahead_bytes -= _num_bytes(ahead)
            stop = len(self._gather_plan(0).targets)  # without the empty rows behind them
            keys, values = (rows[stop - len(gather.targets) : stop] for rows in ahead)
        return gather.scatter(keys), gather.scatter(values)

    def covered_at_layer(self, layer: int, room: int = 0) -> Rows:
        """Realigned keys and values [M + room, H, D], see `Context`; `at_layer` may hand them over."""
        rows = self._cached_rows(layer, self._gather_plan(0), room)
        if layer not in self._ahead and self._ahead_bytes + _num_bytes(rows) <= MAX_AHEAD_BYTES:
            self._ahead[layer] = rows
            self._ahead_bytes += _num_bytes(rows)
        return rows

    def _cached_rows(self, layer: int, gather: GatherPlan, room: int = 0) -> Rows:
        """Realigned rows of a gather plan with empty rows behind them, in new memory."""
        runner, num_rows = self._runner, len(gather.targets)
        shape = (num_rows + room, runner.num_kv_heads, runner.head_size)
        keys, values = (torch.empty(shape, dtype=runner.dtype, device=runner.device) for _ in range(2))
        if gather.rotation is not None:
            # Each part is moved to the device on its own: parts that are there already are not copied.
            parts = [self._rows_of(stored, layer, rows) for stored, rows in gather.parts]
            for into, rows in zip((keys, values), zip(*parts, strict=True), strict=True):
                torch.cat(rows, out=into[:num_rows])
            realign_(keys[:num_rows], gather.rotation, interleaved=runner.rotary_interleaved)
        return keys, values

    def _rows_of(self, stored: StoredSpan, layer: int, rows: slice) -> Rows:
        """Some rows of a chunk, this rank's heads, on the device."""
        runner = self._runner
        keys, values = (
            self._ranks.own_heads(heads, runner.num_kv_heads)[rows].to(runner.device, runner.dtype)
            for heads in stored.chunk.layer(layer)
        )
        return keys, values

    def _gather_plan(self, first: int) -> GatherPlan:
        if first not in self._gather_plans:
            self._gather_plans[first] = self._make_gather_plan(first)
        return self._gather_plans[first]

    def _make_gather_plan(self, first: int) -> GatherPlan:
        parts: list[tuple[StoredSpan, slice]] = []
        targets = [torch.empty(0, dtype=torch.int64)]
        for stored in self._spans:
            begin, stop = max(stored.span.start, first), self._stop(stored)
            if begin < stop:
                # Positions begin .. stop of the context are rows begin - span.start .. of the chunk.
                parts += stored.parts(slice(begin - stored.span.start, stop - stored.span.start))
                targets.append(torch.arange(begin - first, stop - first))
        rotations = [(stored.rotation, rows.stop - rows.start) for stored, rows in parts]
        return GatherPlan(
            tuple(parts),
            side_by_side(rotations) if rotations else None,
            torch.cat(targets).to(self._runner.device),
            self.plan.num_tokens - first,
        )


def _num_bytes(rows: Rows) -> int:
    return sum(tensor.nbytes for tensor in rows)
