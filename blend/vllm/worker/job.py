"""The blend of one request: realign, select, recompute, in slices of one layer.

This is the main path. `blend` is a generator that yields after each layer, so that the worker can let
other requests decode in between; closing it leaves nothing behind but rows in the request's own blocks.

Reference: CacheBlend, https://arxiv.org/abs/2405.16444
"""

import logging
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

import torch

from blend.plan.plan import Span
from blend.report.detail import TokenState, rounded, states_of_rows
from blend.select import selector
from blend.select.base import Selector, SelectorInput
from blend.select.selection import Selection, select
from blend.store.tiers.shared_reads import ChunkSource
from blend.vllm.layers.context import ChunkLost, Context, StoredContext, wanted_spans
from blend.vllm.layers.layers import LayerRunner, Stream
from blend.vllm.layers.pieces import Pieces
from blend.vllm.layers.probe import question_attention
from blend.vllm.layers.ranks import Ranks
from blend.vllm.layers.recompute import recomputing
from blend.vllm.messages import BlendOutcome, BlendTask
from blend.vllm.scheduler.refusal import Reason
from blend.vllm.worker.clock import Clock
from blend.vllm.worker.kept import KeptContext, KeptRows
from blend.vllm.worker.reading import Reading, until_there

logger = logging.getLogger(__name__)


def blend(
    task: BlendTask,
    store: ChunkSource,
    runner: LayerRunner,
    ranks: Ranks,
    kept: dict[str, KeptRows],
    *,
    reads_beside: bool = False,
) -> Generator[None, None, BlendOutcome]:
    """Fill the task's rows in the engine's pages; yields after each layer, returns what was done.

    Args:
        kept: blends to top up, by name; this one is added where the task says so.
        reads_beside: chunks are read layer by layer on threads of their own, ahead of the layer that is
            computed: for a store behind which there is a server. Else all are read before the first layer, in
            slices too.

    Raises:
        RequestError: the ratio or the selector is not one that exists.
    """
    clock = Clock()
    rule = selector(task.selector)
    with clock.time("load"):
        earlier = _earlier(task, ranks, kept)
    if earlier is not None:
        return (yield from _fill(task, KeptContext(task, earlier), rule, runner, ranks, kept, clock))
    with clock.time("load"):
        first_row = 0 if rule.probe_layer is None or rule.question_layers is not None else task.start
        wanted = wanted_spans(task.plan, first_row)
        records = [record for span in wanted for record in span.records]
        reading = Reading(store, records, runner.num_layers, beside=reads_beside)
    try:
        yield from until_there(lambda: [reading.is_open()], ranks, clock)
        with suppress(ChunkLost):
            context = _stored(task, wanted, reading, runner, ranks, clock)
            return (yield from _fill(task, context, rule, runner, ranks, kept, clock))
        # Once more with what comes to its end; what was written to the pages is written anew.
        logger.warning("blending %s begins anew: a chunk could not be read to its end", task.request_id)
        clock = Clock()
        for layer in range(runner.num_layers):
            yield from until_there(partial(_has, reading, layer), ranks, clock)
        context = _stored(task, wanted, reading, runner, ranks, clock)
        return (yield from _fill(task, context, rule, runner, ranks, kept, clock))
    finally:
        reading.end()


def _has(reading: Reading, layer: int) -> list[bool]:
    return [reading.has(layer)]


def _fill(
    task: BlendTask,
    context: Context,
    rule: Selector,
    runner: LayerRunner,
    ranks: Ranks,
    kept: dict[str, KeptRows],
    clock: Clock,
) -> Generator[None, None, BlendOutcome]:
    """Select and recompute.

    Raises:
        ChunkLost: a chunk of the context cannot be read to its end.
    """
    blocks = runner.kernel_blocks(task.block_ids)
    stream, given = yield from _look(context, rule, runner, ranks, blocks, clock)
    with clock.time("select"):
        chosen = _choose(task, context, given, rule)
    if (reason := _leaves_too_much(chosen, task.give_up_residual)) is not None:
        return BlendOutcome(
            task.request_id,
            residual=chosen.residual,
            failed=reason,
            reason=Reason.RESIDUAL,
            unreadable=context.unreadable,
        )
    if task.onto is not None:
        kept.pop(task.onto, None)  # from here on they are this blend's; one that is aborted leaves none
    stream = stream.at((chosen.positions - task.start).to(runner.device))
    first, last = rule.probe_layer or 0, runner.num_layers - 1
    with clock.time("recompute"):
        rows = recomputing(context, chosen.positions, blocks, runner, keeps=task.keep_as is not None)
    for layer in range(first, last):
        yield from context.ready(layer, clock)
        stream = yield from rows.run(layer, stream, clock)
        yield
    yield from context.ready(last, clock)
    rows.finish(last, stream, clock)
    held = rows.kept
    if held is None and isinstance(context, KeptContext) and not len(chosen.positions):
        held = context.kept  # nothing was lacking
    if task.keep_as is not None and held is not None:
        kept[task.keep_as] = held
    return _outcome(task, context, chosen, held, clock)


def _earlier(task: BlendTask, ranks: Ranks, kept: dict[str, KeptRows]) -> KeptRows | None:
    """The blend that the task tops up, where all ranks keep it."""
    if task.onto is None:
        return None
    earlier = kept.get(task.onto)
    return earlier if ranks.all_true([earlier is not None])[0] else None


def _stored(
    task: BlendTask, wanted: Sequence[Span], reading: Reading, runner: LayerRunner, ranks: Ranks, clock: Clock
) -> StoredContext:
    with clock.time("load"):
        return StoredContext(task, wanted, reading, runner, ranks)


def _choose(task: BlendTask, context: Context, given: SelectorInput, rule: Selector) -> Selection:
    """What is to be computed from the task's start on."""
    cold, computed = context.cold_from_first[given.start :], context.computed[given.start :]
    chosen = select(given, rule, cold, computed, task.ratio, task.max_residual)
    # What lies before the start was chosen by this same rule when it was blended.
    return replace(chosen, positions=chosen.positions[chosen.positions >= task.start])


def _look(
    context: Context, rule: Selector, runner: LayerRunner, ranks: Ranks, blocks: torch.Tensor, clock: Clock
) -> Generator[None, None, tuple[Stream, SelectorInput]]:
    """What the selector looks at, and the stream of all rows before its probe layer (or before layer 0)."""
    plan, start = context.plan, context.start
    with clock.time("select"):
        stream = runner.embed(list(plan.token_ids[start:]))
    # Without a probe layer all rows are scored, whatever is in the pages: a blend that goes on where an
    # earlier one was evicted chooses as that one did.
    given = SelectorInput(plan, 0, reduce=ranks.sum)
    if rule.probe_layer is not None:
        with clock.time("select"):
            pieces = Pieces(torch.arange(start, plan.num_tokens), blocks, runner)
        for layer in range(rule.probe_layer):
            stream = yield from pieces.run(layer, stream, clock, "select")
            yield
        yield from context.ready(rule.probe_layer, clock)
        with clock.time("realign"):
            cached = context.at_layer(rule.probe_layer)
        with clock.time("select"):
            fresh = pieces.project(rule.probe_layer, stream)
        given = SelectorInput(plan, start, *fresh, *cached, reduce=ranks.sum)
    if rule.question_layers is not None:
        attention = yield from question_attention(context, rule.question_layers, runner, ranks, clock)
        given = replace(given, attention=attention[:, given.start :])
    return stream, given


def _outcome(
    task: BlendTask, context: Context, chosen: Selection, kept: KeptRows | None, clock: Clock
) -> BlendOutcome:
    cold, exact = int(context.cold.sum()), int(context.exact_from_first[context.start :].sum())
    recomputed = chosen.positions.numel() - cold
    return BlendOutcome(
        task.request_id,
        exact_tokens=exact,
        reused_tokens=len(context.cold) - exact - cold - recomputed,
        recomputed_tokens=recomputed,
        cold_tokens=cold,
        load_ms=clock.ms["load"],
        realign_ms=clock.ms["realign"],
        select_ms=clock.ms["select"],
        recompute_ms=clock.ms["recompute"],
        write_ms=clock.ms["write"],
        ratio=chosen.ratio,
        residual=chosen.residual,
        unreadable=context.unreadable,
        selected=tuple(chosen.positions.tolist()) if task.trace else (),
        states=_states(context, chosen) if task.detail else (),
        scores=rounded(chosen.scores) if task.detail else (),
        kept_bytes=kept.num_bytes if kept is not None else 0,
    )


def _states(context: Context, chosen: Selection) -> tuple[TokenState, ...]:
    """What becomes of the rows from the task's start on."""
    selected = torch.zeros_like(context.cold)
    selected[chosen.positions - context.start] = True
    return states_of_rows(context.exact_from_first[context.start :], context.cold, selected)


def _leaves_too_much(chosen: Selection, limit: float | None) -> str | None:
    if limit is None or chosen.residual is None or chosen.residual <= limit:
        return None
    return (
        f"{chosen.residual:.0%} of the question's attention goes to rows that would not be recomputed; with "
        f"this model a blend is trusted up to {limit:.0%}"
    )
