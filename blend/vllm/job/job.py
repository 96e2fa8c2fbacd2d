"""The blend of one request: realign, select, recompute, in slices of one layer. The main path.

`blend` is a generator that yields after each layer, so that the worker can let other requests decode in
between. Closing it leaves nothing behind but rows in the request's own blocks.

Reference: CacheBlend, https://arxiv.org/abs/2405.16444
"""

import logging
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import torch

from blend.plan.plan import Span
from blend.report.detail import TokenState, rounded, states_of_rows
from blend.report.stats import StageClock, TokenCounts
from blend.select import selector
from blend.select.base import Selector, SelectorInput
from blend.select.selection import Selection, select
from blend.store.tiers.shared_reads import ChunkSource
from blend.vllm.job.context import ChunkLost, Context, KeptContext, KeptRows
from blend.vllm.job.probe import question_attention
from blend.vllm.job.reading import Reading, wait_for
from blend.vllm.job.recompute import Pieces, make_recompute
from blend.vllm.job.stored_context import StoredContext, wanted_spans
from blend.vllm.layers.layers import LayerRunner, Stream
from blend.vllm.layers.ranks import Ranks
from blend.vllm.messages import BlendOutcome, BlendTask, PrefillReason, Reason

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Job:
    """What all steps of one blend use.

    Attributes:
        rule: the selector of the task.
        kept: rows of earlier blends by name, of the whole worker; this blend takes from it and adds to it.
    """

    task: BlendTask
    rule: Selector
    runner: LayerRunner
    ranks: Ranks
    kept: dict[str, KeptRows]
    clock: StageClock


def blend(
    task: BlendTask,
    store: ChunkSource,
    runner: LayerRunner,
    ranks: Ranks,
    kept: dict[str, KeptRows],
    *,
    reads_in_background: bool = False,
) -> Generator[None, None, BlendOutcome]:
    """Fill the task's rows in the engine's pages; yields after each layer, returns what was done.

    Args:
        kept: rows of earlier blends that can be topped up, by name; this blend is added where the task says.
        reads_in_background: read chunks layer by layer on threads, ahead of the layer that is computed: for a
            store with a remote. Otherwise all chunks are read before the first layer, also in slices.

    Raises:
        RequestError: the ratio or the selector does not exist.
    """
    job = Job(task, selector(task.selector), runner, ranks, kept, StageClock())
    with job.clock.time("load"):
        earlier = _earlier_rows(job)
    if earlier is not None:
        return (yield from _blend_context(job, KeptContext(task, earlier)))
    with job.clock.time("load"):
        wanted = wanted_spans(task.plan, _first_row(job))
        records = [record for span in wanted for record in span.records]
        reading = Reading(store, records, runner.num_layers, background=reads_in_background)
    try:
        yield from wait_for(lambda: [reading.is_open()], ranks, job.clock)
        with suppress(ChunkLost):
            return (yield from _blend_context(job, _stored_context(job, wanted, reading)))
        # Start again with the chunks that were read to their end; rows in the pages are overwritten.
        logger.warning("blending %s starts again: a chunk could not be read to its end", task.request_id)
        job.clock = StageClock()
        for layer in range(runner.num_layers):
            yield from wait_for(partial(_has_layer, reading, layer), ranks, job.clock)
        return (yield from _blend_context(job, _stored_context(job, wanted, reading)))
    finally:
        reading.end()


def _earlier_rows(job: Job) -> KeptRows | None:
    """The rows that the task tops up, where all ranks keep them."""
    if job.task.onto is None:
        return None
    earlier = job.kept.get(job.task.onto)
    return earlier if job.ranks.all_true([earlier is not None])[0] else None


def _first_row(job: Job) -> int:
    """First row that the blend needs: a rule that looks at the question or at no layer needs all rows."""
    rule = job.rule
    return 0 if rule.probe_layer is None or rule.question_layers is not None else job.task.start


def _has_layer(reading: Reading, layer: int) -> list[bool]:
    return [reading.has(layer)]


def _stored_context(job: Job, wanted: Sequence[Span], reading: Reading) -> StoredContext:
    with job.clock.time("load"):
        return StoredContext(job.task, wanted, reading, job.runner, job.ranks)


def _blend_context(job: Job, context: Context) -> Generator[None, None, BlendOutcome]:
    """Select and recompute.

    Raises:
        ChunkLost: a chunk of the context cannot be read to its end.
    """
    task, runner, clock = job.task, job.runner, job.clock
    blocks = runner.kernel_blocks(task.block_ids)
    stream, inputs = yield from _probe(job, context, blocks)
    with clock.time("select"):
        chosen = _select(job, context, inputs)
    if (failure := _leaves_too_much(chosen, task.give_up_residual)) is not None:
        return BlendOutcome(
            task.request_id,
            residual=chosen.residual,
            failure=PrefillReason(Reason.RESIDUAL, failure),
            unreadable=context.unreadable,
        )
    if task.onto is not None:
        job.kept.pop(task.onto, None)  # this blend changes them from here on; if it is aborted, they are gone
    stream = stream.at((chosen.positions - task.start).to(runner.device))
    first, last = job.rule.probe_layer or 0, runner.num_layers - 1
    with clock.time("recompute"):
        rows = make_recompute(context, chosen.positions, blocks, runner, keeps=task.keep_as is not None)
    for layer in range(first, last):
        yield from context.ready(layer, clock)
        stream = yield from rows.run(layer, stream, clock)
        yield
    yield from context.ready(last, clock)
    rows.finish(last, stream, clock)
    kept = rows.kept
    if kept is None and isinstance(context, KeptContext) and not len(chosen.positions):
        kept = context.kept  # nothing had to be recomputed
    if task.keep_as is not None and kept is not None:
        job.kept[task.keep_as] = kept
    return _outcome(job, context, chosen, kept)


def _probe(
    job: Job, context: Context, blocks: torch.Tensor
) -> Generator[None, None, tuple[Stream, SelectorInput]]:
    """The selector's input, and the stream of all rows before its probe layer (or before layer 0)."""
    runner, ranks, clock = job.runner, job.ranks, job.clock
    plan, start = context.plan, context.start
    with clock.time("select"):
        stream = runner.embed(list(plan.token_ids[start:]))
    # Without a probe layer all rows are scored, whatever the pages hold: a blend that goes on where an
    # earlier one was evicted selects the same rows as that one did.
    inputs = SelectorInput(plan, 0, reduce=ranks.sum)
    if job.rule.probe_layer is not None:
        with clock.time("select"):
            pieces = Pieces(torch.arange(start, plan.num_tokens), blocks, runner)
        for layer in range(job.rule.probe_layer):
            stream = yield from pieces.run(layer, stream, clock, "select")
            yield
        yield from context.ready(job.rule.probe_layer, clock)
        with clock.time("realign"):
            cached = context.at_layer(job.rule.probe_layer)
        with clock.time("select"):
            fresh = pieces.project(job.rule.probe_layer, stream)
        inputs = SelectorInput(plan, start, *fresh, *cached, reduce=ranks.sum)
    if job.rule.question_layers is not None:
        attention = yield from question_attention(context, job.rule.question_layers, runner, ranks, clock)
        inputs = replace(inputs, attention=attention[:, inputs.start :])
    return stream, inputs


def _select(job: Job, context: Context, inputs: SelectorInput) -> Selection:
    """The rows to compute, from the task's start on."""
    task = job.task
    cold, computed = context.cold_from_first[inputs.start :], context.computed[inputs.start :]
    chosen = select(inputs, job.rule, cold, computed, task.ratio, task.max_residual)
    # The rows before the start were selected by this same rule when they were blended.
    return replace(chosen, positions=chosen.positions[chosen.positions >= task.start])


def _leaves_too_much(chosen: Selection, limit: float | None) -> str | None:
    """Why a blend is not worth finishing, or None."""
    if limit is None or chosen.residual is None or chosen.residual <= limit:
        return None
    return (
        f"{chosen.residual:.0%} of the question's attention goes to rows that would not be recomputed; with "
        f"this model a blend is trusted up to {limit:.0%}"
    )


def _outcome(job: Job, context: Context, chosen: Selection, kept: KeptRows | None) -> BlendOutcome:
    task = job.task
    cold, exact = int(context.cold.sum()), int(context.exact_from_first[context.start :].sum())
    recomputed = chosen.positions.numel() - cold
    return BlendOutcome(
        task.request_id,
        counts=TokenCounts(exact, len(context.cold) - exact - cold - recomputed, recomputed, cold),
        times=job.clock.times,
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
