"""Full prefill, and the blend without masks or tricks: one selected token after the other, as in decoding."""

from collections.abc import Sequence

import torch
from transformers import DynamicCache, PreTrainedModel

KV = tuple[torch.Tensor, torch.Tensor]
"""Keys and values, [L, T, H, D] each."""


@torch.no_grad()
def full_prefill(model: PreTrainedModel, token_ids: Sequence[int], first_position: int = 0) -> KV:
    """Keys and values of all tokens, the first standing at `first_position` with nothing before it."""
    return prefill_at(model, token_ids, range(first_position, first_position + len(token_ids)))


@torch.no_grad()
def prefill_at(model: PreTrainedModel, token_ids: Sequence[int], positions: Sequence[int]) -> KV:
    """Keys and values of tokens that stand where they are said to stand."""
    cache = DynamicCache(config=model.config)
    places = torch.tensor([list(positions)])
    model(input_ids=torch.tensor([token_ids]), position_ids=places, past_key_values=cache)
    return rows_of(cache)


@torch.no_grad()
def decode_selected(
    model: PreTrainedModel, token_ids: Sequence[int], rows: KV, selected: Sequence[int]
) -> KV:
    """Cached rows with the selected tokens recomputed, each attending to the rows before its own."""
    keys, values = rows[0].clone(), rows[1].clone()
    for p in sorted(selected):
        cache = DynamicCache(config=model.config)
        if p > 0:
            for layer in range(len(keys)):
                cache.update(*(t[layer, :p].transpose(0, 1)[None] for t in (keys, values)), layer)
        model(
            input_ids=torch.tensor([[token_ids[p]]]),
            position_ids=torch.tensor([[p]]),
            past_key_values=cache,
        )
        fresh_keys, fresh_values = rows_of(cache)
        keys[:, p], values[:, p] = fresh_keys[:, p], fresh_values[:, p]
    return keys, values


@torch.no_grad()
def greedy(
    model: PreTrainedModel, prompt_ids: Sequence[int], num_tokens: int, cache: DynamicCache | None = None
) -> list[int]:
    """Greedy continuation of a prompt, from a cache that holds its start when there is one."""
    prompt = torch.tensor([prompt_ids])
    ids = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        past_key_values=cache,
        max_new_tokens=num_tokens,
        do_sample=False,
        pad_token_id=0,
    )
    return ids[0, len(prompt_ids) :].tolist()


def rows_of(cache: DynamicCache) -> KV:
    """What a cache of one sequence holds, as [L, T, H, D]."""
    keys = torch.stack([layer.keys[0].transpose(0, 1) for layer in cache.layers])
    values = torch.stack([layer.values[0].transpose(0, 1) for layer in cache.layers])
    return keys, values
