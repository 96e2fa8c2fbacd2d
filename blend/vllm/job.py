"""The blend of one request: realign, select, recompute, in slices of one layer.

This is the main path. `blend` is a generator that yields after each layer, so that the worker can let
other requests decode in between; closing it leaves nothing behind but rows in the request's own blocks.

Reference: CacheBlend, https://arxiv.org/abs/2405.16444
"""

from collections.abc import Generator
from dataclasses import replace

import torch

from blend.select import selector
from blend.select.base import Selector, SelectorInput
from blend.select.selection import Selection, select
from blend.store.base import ChunkStore
from blend.vllm.clock import Clock
from blend.vllm.context import Context
from blend.vllm.layers import LayerRunner, Stream
from blend.vllm.messages import BlendOutcome, BlendTask
from blend.vllm.pieces import Pieces
from blend.vllm.probe import question_attention
from blend.vllm.ranks import Ranks
from blend.vllm.recompute import recomputing


def blend(
    task: BlendTask, store: ChunkStore, runner: LayerRunner, ranks: Ranks
) -> Generator[None, None, BlendOutcome]:
    """Fill the task's rows in the engine's pages; yields after each layer, returns what was done.

    Raises:
        RequestError: the ratio or the selector is not one that exists.
    """
    clock = Clock()
    rule = selector(task.selector)
    blocks = runner.kernel_blocks(task.block_ids)
    with clock.time("load"):
        first_row = 0 if rule.probe_layer is None or rule.question_layers is not None else task.start
        context = Context(task, store, runner, ranks, first_row)
    stream, given = yield from _look(context, rule, runner, ranks, blocks, clock)
    with clock.time("select"):
        cold = context.cold if given.start else context.cold_from_first
        chosen = select(given, rule, cold, task.ratio, task.max_residual)
        # What lies before the start was chosen by this same rule when it was blended.
        chosen = replace(chosen, positions=chosen.positions[chosen.positions >= task.start])
    if (reason := _leaves_too_much(chosen, task.give_up_residual)) is not None:
        return BlendOutcome(
            task.request_id, residual=chosen.residual, failed=reason, unreadable=context.unreadable
        )
    stream = stream.at((chosen.positions - task.start).to(runner.device))
    first = rule.probe_layer or 0
    with clock.time("recompute"):
        rows = recomputing(context, chosen.positions, blocks, runner)
    for layer in range(first, runner.num_layers - 1):
        stream = yield from rows.run(layer, stream, clock)
        yield
    rows.finish(runner.num_layers - 1, stream, clock)
    return _outcome(task, context, chosen, clock)


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
        with clock.time("realign"):
            cached = context.at_layer(rule.probe_layer)
        with clock.time("select"):
            fresh = pieces.project(rule.probe_layer, stream)
        given = SelectorInput(plan, start, *fresh, *cached, reduce=ranks.sum)
    if rule.question_layers is not None:
        attention = yield from question_attention(context, rule.question_layers, runner, ranks, clock)
        given = replace(given, attention=attention[:, given.start :])
    return stream, given


def _outcome(task: BlendTask, context: Context, chosen: Selection, clock: Clock) -> BlendOutcome:
    cold = int(context.cold.sum())
    exact = sum(
        max(0, min(one.span.stop, task.plan.num_tokens) - max(one.span.start, task.start))
        for one in context.loaded
        if one.is_exact
    )
    recomputed = chosen.positions.numel() - cold
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
        write_ms=clock.ms["write"],
        ratio=chosen.ratio,
        residual=chosen.residual,
        unreadable=context.unreadable,
        selected=tuple(chosen.positions.tolist()) if task.trace else (),
    )


def _leaves_too_much(chosen: Selection, limit: float | None) -> str | None:
    if limit is None or chosen.residual is None or chosen.residual <= limit:
        return None
    return (
        f"{chosen.residual:.0%} of the question's attention goes to rows that would not be recomputed; with "
        f"this model a blend is trusted up to {limit:.0%}"
    )
