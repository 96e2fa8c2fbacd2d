"""The question probe: the suffix runs over the cached rows as they are, to see where it looks."""

from collections.abc import Generator
from contextlib import suppress
from typing import Any

import torch

from blend.attention import mix, weigh
from blend.select.base import LayerPart, layers_of, probe_tokens
from blend.vllm.clock import Clock
from blend.vllm.context import Context
from blend.vllm.layers import LayerLeft, LayerRunner, Stream
from blend.vllm.ranks import Ranks


def question_attention(
    context: Context, part: LayerPart, runner: LayerRunner, ranks: Ranks, clock: Clock
) -> Generator[None, None, torch.Tensor]:
    """Attention that the suffix's last tokens pay to each row; yields after each layer.

    Args:
        context: of which every chunk is loaded; rows that are cold are not seen.
        part: of the depth, over whose layers the mean is taken.

    Returns:
        float32 [P, N] on the CPU, as in `SelectorInput.attention`, of all rows of the context.

    Raises:
        ChunkLost: a chunk cannot be read to its end.
    """
    plan = context.plan
    token_ids, own_positions, num_suffix = probe_tokens(plan)
    if not num_suffix:
        return torch.zeros(0, plan.num_tokens)
    covered = context.covered()  # [M]
    positions = own_positions.to(runner.device)
    wanted = layers_of(part, runner.num_layers)
    with clock.time("select"):
        stream = runner.embed(token_ids.tolist())
        distance = positions[:, None] - torch.cat([covered.to(runner.device), positions])  # [P, M + P]
        total = torch.zeros(num_suffix, len(covered), device=runner.device)
    for layer in range(wanted[-1] + 1):
        yield from context.ready(layer, clock)
        with clock.time("realign"):
            keys, values = context.covered_at_layer(layer)
        with clock.time("select"):
            is_last = layer == wanted[-1]
            stream, paid = _look(runner, layer, stream, positions, distance, keys, values, is_last=is_last)
            if layer in wanted:
                total += paid[-num_suffix:]
        yield
    attention = torch.zeros(num_suffix, plan.num_tokens)
    attention[:, covered] = ranks.sum(total).cpu() / (len(wanted) * ranks.size)
    return attention


def _look(
    runner: LayerRunner,
    layer: int,
    stream: Stream,
    positions: torch.Tensor,
    distance: torch.Tensor,
    cached_keys: torch.Tensor,
    cached_values: torch.Tensor,
    *,
    is_last: bool,
) -> tuple[Stream, torch.Tensor]:
    """One layer over tokens that attend to given rows and to each other; no page is touched.

    Args:
        stream: of the tokens, [P, hidden]; positions, int64 [P], say where they stand.
        distance: int64 [P, M + P], how far before each token the given rows stand, and then the tokens.
        cached_keys, cached_values: [M, H, D].
        is_last: nobody reads what the layer gives: it is left once the weights are there.

    Returns:
        The stream behind the layer (before it, where it was left), and what each token pays to each given
        row: float32 [P, M], mean over this rank's heads.
    """
    attention: Any = runner.attentions[layer]
    visible = distance >= 0
    if (window := runner.window(layer)) is not None:
        visible &= distance < window
    seen: list[torch.Tensor] = []

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any) -> torch.Tensor:
        shape = (len(positions), -1, runner.head_size)
        keys = torch.cat([cached_keys, key.reshape(shape)])
        scale, soft_cap = attention.impl.scale, getattr(attention.impl, "logits_soft_cap", None)
        weights = weigh(query.reshape(shape), keys, visible, scale, soft_cap)
        seen.append(weights[:, :, : len(cached_keys)].mean(0))
        if is_last:
            raise LayerLeft
        return mix(weights, torch.cat([cached_values, value.reshape(shape)])).flatten(1)

    with suppress(LayerLeft):
        stream = runner.run_attending(layer, positions, stream, attend)
    return stream, seen[0]
