"""The question probe: runs the suffix over the cached rows and records which rows it attends to."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch
from transformers import AttentionInterface, PreTrainedModel

from blend.hf.context import Context
from blend.hf.decoder import Stop, run
from blend.maths.attention import OpenAttention, mix
from blend.plan.plan import BlendPlan
from blend.select.base import LayerPart, layers_of, probe_tokens

_IMPLEMENTATION = "kvblend_question_probe"


class _Watch:
    """Collects the attention weights of the wanted layers, and stops the run after the last one."""

    def __init__(self, wanted: range, num_context: int) -> None:
        self.wanted = wanted
        self.num_context = num_context
        self.total: torch.Tensor | None = None

    def take(self, layer: int, weights: torch.Tensor) -> None:
        if layer in self.wanted:
            seen = weights[:, :, : self.num_context].mean(0)  # [P, N]
            self.total = seen if self.total is None else self.total + seen
        if layer == self.wanted[-1]:
            raise Stop


_watch: list[_Watch] = []
"""The probe that runs now, at most one: transformers hands nothing of ours to an attention function."""


@torch.no_grad()
def question_attention(
    model: PreTrainedModel, plan: BlendPlan, cached: Context, part: LayerPart
) -> torch.Tensor:
    """Attention from the suffix's last tokens to each context row; see `SelectorInput.attention`.

    Args:
        cached: realigned rows; cold rows are not attended to.
        part: the layers over which the mean is taken.

    Returns:
        float32 [P, N] on the CPU, `P` tokens of the suffix, see `probe_tokens`.
    """
    token_ids, positions, num_suffix = probe_tokens(plan)
    attention = torch.zeros(num_suffix, plan.num_tokens)
    if not num_suffix:
        return attention
    rows = (~cached.cold).nonzero().flatten()  # [M]
    on_device = rows.to(cached.keys.device)

    def attend(layer: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen_keys, seen_values = cached.keys[layer][on_device], cached.values[layer][on_device]
        return torch.cat([seen_keys, keys]), torch.cat([seen_values, values])

    with _watching(model, layers_of(part, cached.keys.shape[0]), len(rows)) as watch, suppress(Stop):
        run(model, token_ids, positions, torch.cat([rows, positions]), attend)
    assert watch.total is not None
    attention[:, rows] = watch.total[-num_suffix:].cpu() / len(watch.wanted)
    return attention


@contextmanager
def _watching(model: PreTrainedModel, wanted: range, num_context: int) -> Iterator[_Watch]:
    assert not _watch, "one blend at a time: the probe replaces the model's attention while it runs"
    own = model.config._attn_implementation
    watch = _Watch(wanted, num_context)
    _watch.append(watch)
    model.config._attn_implementation = _IMPLEMENTATION
    try:
        yield watch
    finally:
        model.config._attn_implementation = own
        _watch.pop()


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float | None = None,
    softcap: float | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers calls it: [1, heads, tokens, D] each, mask [1, 1, P, M]."""
    queries, keys, values = (rows[0].transpose(0, 1) for rows in (query, key, value))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    weights = OpenAttention(attention_mask[0, 0] == 0).weigh(queries, keys, scale, softcap)
    layer: int = module.layer_idx  # type: ignore[assignment]  # every attention that uses a cache has it
    _watch[-1].take(layer, weights)
    return mix(weights, values)[None], None


AttentionInterface.register(_IMPLEMENTATION, _attention)
