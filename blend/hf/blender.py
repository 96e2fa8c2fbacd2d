"""The blend of one context on a Hugging Face model: realign, select, recompute. The main path.

Axes: `L` layers, `N` context tokens, `H` key/value heads, `D` head size.

Reference: CacheBlend, https://arxiv.org/abs/2405.16444
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from blend.chunks.chunk import ChunkKV
from blend.errors import RequestError
from blend.hf.context import Context, realign_chunks
from blend.hf.decoder import KVLayout, kv_layout, project, run
from blend.hf.probe import question_attention
from blend.models.blendable import check_blendable
from blend.plan.match import ChunkMatcher
from blend.plan.plan import BlendPlan, make_plan
from blend.plan.ratio import Ratio, check_ratio
from blend.report.stats import BlendStats, ChunkUse, StageClock, TokenCounts
from blend.select import selector as selector_of
from blend.select.base import Selector, SelectorInput
from blend.select.choose import open_inexact
from blend.select.selection import Selection, select
from blend.settings.defaults import DEFAULTS


@dataclass(frozen=True, slots=True)
class HFBlend:
    """A blended context.

    Attributes:
        cache: holds positions `0 .. N - 1`; call `generate` with the whole prompt to continue.
        stats: what happened.
        selected: int64 [S], context positions that were computed, ascending, on the CPU.
        computed: bool [N], the same, plus those of the blend that this one tops up.
        exact: bool [N], rows that were taken from chunks and equal a full prefill's.
    """

    cache: DynamicCache
    stats: BlendStats
    selected: torch.Tensor
    computed: torch.Tensor
    exact: torch.Tensor


@torch.no_grad()
def blend(
    model: PreTrainedModel,
    prompt: BlendPlan | Sequence[int],
    chunks: Sequence[ChunkKV],
    *,
    recompute_ratio: Ratio = DEFAULTS.recompute_ratio,
    selector: str | Selector = DEFAULTS.selector,
    onto: HFBlend | None = None,
) -> HFBlend:
    """Blend the KV of a prompt's chunks into context KV. Not thread-safe: one blend at a time.

    Args:
        model: the model that computed the chunks; sdpa or eager attention.
        prompt: token ids of the whole prompt (chunks are found in it), or a plan.
        chunks: chunk KV, never changed. A chunk of the plan that is missing here is computed cold.
        recompute_ratio: share of context tokens that are computed again, in [0, 1], or "auto".
        selector: rule that picks them, by name or itself.
        onto: a blend of the same context for another question, to be topped up: its computed rows are kept,
            and the rows that the selector picks in addition are computed. It is not changed.

    Raises:
        NotBlendable: the model's KV cannot be blended.
        RequestError: the ratio, the selector or a chunk's shape is wrong, or `onto` is of another length.
    """
    check_blendable(model.config)
    check_ratio(recompute_ratio)
    rule = selector_of(selector) if isinstance(selector, str) else selector
    clock = StageClock()
    with clock.time("match"):
        plan = prompt if isinstance(prompt, BlendPlan) else _find(prompt, chunks)
    if not plan.num_tokens:
        return _nothing_known(model, rule)
    with clock.time("realign"):
        layout = _layout(model, plan)
        cached = realign_chunks(layout, plan, chunks) if onto is None else _rows_of(onto, plan)
        computed = torch.zeros(plan.num_tokens, dtype=torch.bool) if onto is None else onto.computed
        plan = open_inexact(plan, cached.exact, recompute_ratio)
    with clock.time("select"):
        chosen = _select(model, layout, plan, cached, computed, rule, recompute_ratio)
        selected = chosen.positions
    with clock.time("recompute"):
        blended = _recompute(model, plan, cached, selected)
    stats = _stats(plan, cached, chosen, rule, clock)
    computed = computed.index_fill(0, selected, True)
    return HFBlend(_cache(model, blended), stats, selected, computed, cached.exact)


def _layout(model: PreTrainedModel, plan: BlendPlan) -> KVLayout:
    farthest = max(plan.num_tokens, *(one.offset for span in plan.spans for one in span.records), 1)
    return kv_layout(model, plan.token_ids, farthest + 1)


def _rows_of(blended: HFBlend, plan: BlendPlan) -> Context:
    """The rows of an earlier blend."""
    if len(blended.computed) != plan.num_tokens:
        raise RequestError(
            f"got a blend of {len(blended.computed)} context tokens to top up, expected one of the same "
            f"context: {plan.num_tokens} tokens"
        )
    layers: list[Any] = list(blended.cache.layers)
    keys, values = (
        torch.stack([rows[0, :, : plan.num_tokens].transpose(0, 1) for rows in kind])  # [L, N, H, D]
        for kind in ([layer.keys for layer in layers], [layer.values for layer in layers])
    )
    return Context(keys, values, torch.zeros(plan.num_tokens, dtype=torch.bool), blended.exact)


def _find(prompt_ids: Sequence[int], chunks: Sequence[ChunkKV]) -> BlendPlan:
    matcher = ChunkMatcher()
    for chunk in chunks:
        matcher.add(chunk.record)
    return make_plan(prompt_ids, matcher.find(prompt_ids), matcher.echo_of)


def _select(
    model: PreTrainedModel,
    layout: KVLayout,
    plan: BlendPlan,
    cached: Context,
    computed: torch.Tensor,
    rule: Selector,
    ratio: Ratio,
) -> Selection:
    """Context positions to compute."""
    inputs = SelectorInput(plan, 0)
    if rule.probe_layer is not None:
        layer = min(rule.probe_layer, layout.num_layers - 1)
        fresh_keys, fresh_values = project(model, plan.token_ids, layer)
        inputs = SelectorInput(plan, 0, fresh_keys, fresh_values, cached.keys[layer], cached.values[layer])
    if rule.question_layers is not None:
        inputs = replace(inputs, attention=question_attention(model, plan, cached, rule.question_layers))
    return select(inputs, rule, cached.cold, computed, ratio, DEFAULTS.max_residual)


def _recompute(model: PreTrainedModel, plan: BlendPlan, cached: Context, selected: torch.Tensor) -> Context:
    """The context with the selected rows computed afresh, layer by layer."""
    if not selected.numel():
        return cached
    keys, values = list(cached.keys), list(cached.values)
    rows = selected.to(cached.keys.device)

    def attend(
        layer: int, fresh_keys: torch.Tensor, fresh_values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        keys[layer] = keys[layer].index_copy(0, rows, fresh_keys)
        values[layer] = values[layer].index_copy(0, rows, fresh_values)
        return keys[layer], values[layer]

    token_ids = torch.tensor(plan.token_ids)[selected]
    run(model, token_ids, selected, torch.arange(plan.num_tokens), attend)
    return replace(cached, keys=torch.stack(keys), values=torch.stack(values))


def _cache(model: PreTrainedModel, blended: Context) -> DynamicCache:
    cache = DynamicCache(config=model.config)
    for layer, (keys, values) in enumerate(zip(blended.keys, blended.values, strict=True)):
        cache.update(keys.transpose(0, 1)[None], values.transpose(0, 1)[None], layer)  # [1, H, N, D]
    return cache


def _nothing_known(model: PreTrainedModel, rule: Selector) -> HFBlend:
    stats = BlendStats(selector=rule.name, fallback="no known chunk in the prompt")
    nothing = torch.empty(0, dtype=torch.int64)
    return HFBlend(DynamicCache(config=model.config), stats, nothing, nothing.bool(), nothing.bool())


def _stats(
    plan: BlendPlan, cached: Context, chosen: Selection, rule: Selector, clock: StageClock
) -> BlendStats:
    exact = int(cached.exact.sum())
    num_cold = int(cached.cold.sum())
    num_recomputed = len(chosen.positions) - num_cold
    reused = plan.num_tokens - exact - num_cold - num_recomputed
    return BlendStats(
        chunks=tuple(ChunkUse(s.record.chunk_id, s.start, s.record.num_tokens) for s in plan.spans),
        context_tokens=plan.num_tokens,
        counts=TokenCounts(exact, reused, num_recomputed, num_cold),
        ratio=chosen.ratio,
        selector=rule.name,
        residual=chosen.residual,
        times=clock.times,
    )
