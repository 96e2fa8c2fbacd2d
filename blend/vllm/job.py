"""The blend of one request: realign, select, recompute, correct, in slices of one layer.

This is the main path. `blend` is a generator that yields after each layer, so that the worker can let
other requests decode in between; closing it leaves nothing behind but rows in the request's own blocks.

Reference: CacheBlend, https://arxiv.org/abs/2405.16444
"""

import logging
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from blend.chunk import ChunkKV
from blend.correct import Corrector, Identity
from blend.errors import CorruptChunk
from blend.plan import BlendPlan, Span
from blend.rope import Rotation, realign, rotation
from blend.select import selector
from blend.select.base import Selector, SelectorInput
from blend.select.choose import choose
from blend.store.base import ChunkStore
from blend.vllm.layers import LayerRunner, Prepared, Stream
from blend.vllm.messages import BlendOutcome, BlendTask
from blend.vllm.ranks import Ranks
from blend.vllm.rows import pieces_of, rows_of_one, slots_of

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Clock:
    """Milliseconds by stage."""

    ms: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("load", "realign", "select", "recompute"), 0.0)
    )

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.ms[stage] += (time.perf_counter() - begin) * 1e3


@dataclass(frozen=True, slots=True)
class Loaded:
    """A span of the plan with this rank's heads of its stored KV, and the rotation to its place."""

    span: Span
    keys: torch.Tensor
    values: torch.Tensor
    turn: Rotation


class Context:
    """The cached rows `start .. N - 1` of a plan: where they come from and what they are at a layer.

    Args:
        task: what is to be blended.
        store: where chunk KV is.
    """

    def __init__(self, task: BlendTask, store: ChunkStore, runner: LayerRunner, ranks: Ranks) -> None:
        self._runner = runner
        self.plan: BlendPlan = task.plan
        self.start = task.start
        self.num_rows = task.plan.num_tokens - task.start
        wanted = [span for span in task.plan.spans if span.stop > task.start]
        found = [_read(store, span) for span in wanted]
        # A chunk that one rank cannot read is cold on all: the ranks must select the same tokens.
        readable = ranks.all_true([chunk is not None for chunk in found])
        self.unreadable = tuple(s.record.chunk_id for s, ok in zip(wanted, readable, strict=True) if not ok)
        self.loaded = [
            self._place(span, chunk, ranks)
            for span, chunk, ok in zip(wanted, found, readable, strict=True)
            if ok and chunk is not None
        ]
        self.cold = torch.ones(self.num_rows, dtype=torch.bool)
        for one in self.loaded:
            self.cold[self._rows(one.span)] = False

    def _place(self, span: Span, chunk: ChunkKV, ranks: Ranks) -> Loaded:
        turn = rotation(self._runner.rotary_table, span.start - span.record.offset)
        keys, values = (ranks.own_heads(t, self._runner.num_kv_heads) for t in (chunk.keys, chunk.values))
        return Loaded(span, keys, values, turn)

    def _rows(self, span: Span) -> slice:
        return slice(
            max(span.start, self.start) - self.start, min(span.stop, self.plan.num_tokens) - self.start
        )

    def at_layer(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Realigned keys and values [N - start, H, D]; rows that are cold are zero."""
        runner = self._runner
        shape = (self.num_rows, runner.num_kv_heads, runner.head_size)
        keys = torch.zeros(shape, dtype=runner.dtype, device=runner.device)
        values = torch.zeros_like(keys)
        for one in self.loaded:
            rows = self._rows(one.span)
            # Chunk rows that lie in the context:  span.start ..max(start)  ->  own row 0 .. n
            first = rows.start + self.start - one.span.start
            own = slice(first, first + rows.stop - rows.start)
            fresh = one.keys[layer, own].to(runner.device, runner.dtype)
            keys[rows] = realign(fresh, one.turn, interleaved=runner.rotary_interleaved)
            values[rows] = one.values[layer, own].to(runner.device, runner.dtype)
        return keys, values


def blend(
    task: BlendTask, store: ChunkStore, runner: LayerRunner, ranks: Ranks, corrector: Corrector | None = None
) -> Generator[None, None, BlendOutcome]:
    """Fill the task's rows in the engine's pages; yields after each layer, returns what was done.

    Raises:
        RequestError: the ratio or the selector is not one that exists.
    """
    clock = Clock()
    rule = selector(task.selector)
    blocks = runner.kernel_blocks(task.block_ids)
    with clock.time("load"):
        context = Context(task, store, runner, ranks)
    first, stream, scores = yield from _score(context, rule, runner, ranks, blocks, clock)
    selected = choose(task.plan, task.start, scores, context.cold, task.ratio)
    stream = stream.at((selected - task.start).to(runner.device))
    yield from _recompute(context, corrector or Identity(), runner, blocks, selected, first, stream, clock)
    return _outcome(task, context, selected, clock)


class Pieces:
    """Chosen positions of one request, in pieces that the engine was made for, run through its layers."""

    def __init__(self, positions: torch.Tensor, blocks: torch.Tensor, runner: LayerRunner) -> None:
        self._runner = runner
        cuts = pieces_of(positions, runner.max_piece_tokens, runner.max_piece_runs)
        rows = [rows_of_one(positions[cut], blocks, runner.block_size) for cut in cuts]
        self._pieces: list[tuple[slice, Prepared]] = [
            (cut, runner.prepare(one)) for cut, one in zip(cuts, rows, strict=True)
        ]

    def run(self, layer: int, stream: Stream, clock: Clock, stage: str) -> Generator[None, None, Stream]:
        """One layer over all rows; yields between pieces."""
        parts: list[Stream] = []
        for cut, prepared in self._pieces:
            if parts:
                yield
            with clock.time(stage):
                parts.append(self._runner.run(layer, prepared, stream.at(cut)))
        return Stream.join(parts)

    def project(self, layer: int, stream: Stream) -> tuple[torch.Tensor, torch.Tensor]:
        """Only the keys and values [S, H, D] of a layer; nothing is written, the stream stays."""
        pairs = [self._runner.project(layer, prepared, stream.at(cut)) for cut, prepared in self._pieces]
        return torch.cat([keys for keys, _ in pairs]), torch.cat([values for _, values in pairs])


def _score(
    context: Context, rule: Selector, runner: LayerRunner, ranks: Ranks, blocks: torch.Tensor, clock: Clock
) -> Generator[None, None, tuple[int, Stream, torch.Tensor]]:
    """Scores of all rows, the layer to recompute from, and the stream of all rows before it."""
    plan, start = context.plan, context.start
    with clock.time("select"):
        stream = runner.embed(list(plan.token_ids[start:]))
    if rule.probe_layer is None:
        return 0, stream, rule.score(SelectorInput(plan, start))
    with clock.time("select"):
        pieces = Pieces(torch.arange(start, plan.num_tokens), blocks, runner)
    for layer in range(rule.probe_layer):
        stream = yield from pieces.run(layer, stream, clock, "select")
        yield
    with clock.time("realign"):
        cached_keys, cached_values = context.at_layer(rule.probe_layer)
    with clock.time("select"):
        fresh_keys, fresh_values = pieces.project(rule.probe_layer, stream)
        scores = rule.score(
            SelectorInput(plan, start, fresh_keys, fresh_values, cached_keys, cached_values, ranks.sum)
        )
    return rule.probe_layer, stream, scores


def _recompute(
    context: Context,
    corrector: Corrector,
    runner: LayerRunner,
    blocks: torch.Tensor,
    selected: torch.Tensor,
    first: int,
    stream: Stream,
    clock: Clock,
) -> Generator[None, None, None]:
    """Layers `first ..`: cached rows into the pages, then the selected rows through the layer."""
    everything = torch.arange(context.start, context.plan.num_tokens)
    slots = slots_of(everything, blocks, runner.block_size).to(runner.device)
    own_slots = slots[(selected - context.start).to(runner.device)]
    pieces = Pieces(selected, blocks, runner) if selected.numel() else None
    for layer in range(first, runner.num_layers):
        with clock.time("realign"):
            keys, values = context.at_layer(layer)
        if pieces is not None and not corrector.is_identity:
            with clock.time("recompute"):
                fresh = pieces.project(layer, stream)
                keys, values = corrector.correct(context.plan, keys, values, selected - context.start, *fresh)
        with clock.time("realign"):
            runner.write(layer, keys, values, slots)
        if pieces is not None and layer < runner.num_layers - 1:
            stream = yield from pieces.run(layer, stream, clock, "recompute")
        elif pieces is not None:
            # Nobody reads the last layer's hidden states of context tokens: its keys and values are all.
            with clock.time("recompute"):
                runner.write(layer, *pieces.project(layer, stream), own_slots)
        yield


def _read(store: ChunkStore, span: Span) -> ChunkKV | None:
    try:
        return store.get(span.record)
    except CorruptChunk:
        return None  # dropped and counted by the store; the rows are computed cold
    except Exception:  # a rank that raised here would leave the others waiting for its vote
        logger.exception("cannot read chunk %s; it is computed", span.record.chunk_id)
        return None


def _outcome(task: BlendTask, context: Context, selected: torch.Tensor, clock: Clock) -> BlendOutcome:
    cold = int(context.cold.sum())
    exact = sum(
        min(one.span.stop, task.plan.num_tokens) - max(one.span.start, task.start)
        for one in context.loaded
        if one.span.exact
    )
    recomputed = selected.numel() - cold
    return BlendOutcome(
        task.request_id,
        exact_tokens=exact,
        reused_tokens=context.num_rows - exact - cold - recomputed,
        recomputed_tokens=recomputed,
        cold_tokens=cold,
        load_ms=clock.ms["load"],
        realign_ms=clock.ms["realign"],
        select_ms=clock.ms["select"],
        recompute_ms=clock.ms["recompute"],
        unreadable=context.unreadable,
    )
