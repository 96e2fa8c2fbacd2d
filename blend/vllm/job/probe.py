"""The question probe: runs the suffix over the cached rows and records which rows it attends to."""

from collections.abc import Generator
from contextlib import suppress
from typing import Any

import torch

from blend.maths.attention import OpenAttention, mix
from blend.report.stats import StageClock
from blend.select.base import LayerPart, layers_of, probe_tokens
from blend.vllm.job.context import Context
from blend.vllm.layers.layers import LayerLeft, LayerRunner, Stream
from blend.vllm.layers.ranks import Ranks


def question_attention(
    context: Context, part: LayerPart, runner: LayerRunner, ranks: Ranks, clock: StageClock
) -> Generator[None, None, torch.Tensor]:
    """Attention from the suffix's last tokens to each row; yields after each layer.

    Args:
        context: with every chunk read from the first row on; cold rows are not attended to.
        part: the layers over which the mean is taken.

    Returns:
        float32 [P, N] on the CPU, as in `SelectorInput.attention`, of all rows of the context.

    Raises:
        ChunkLost: a chunk cannot be read to its end.
    """
    plan = context.plan
    token_ids, own_positions, num_suffix = probe_tokens(plan)
    if not num_suffix:
        return torch.zeros(0, plan.num_tokens)
    wanted = layers_of(part, runner.num_layers)
    with clock.time("select"):
        stream = runner.embed(token_ids.tolist())
        look = _Look(context.covered(), own_positions, num_suffix, runner)
    for layer in range(wanted[-1] + 1):
        yield from context.ready(layer, clock)
        with clock.time("realign"):
            keys, values = context.covered_at_layer(layer, room=len(own_positions))
        with clock.time("select"):
            stream = look.at(
                layer, stream, keys, values, is_wanted=layer in wanted, is_last=layer == wanted[-1]
            )
        yield
    attention = torch.zeros(num_suffix, plan.num_tokens)
    attention[:, look.covered] = ranks.sum(look.total).cpu() / (len(wanted) * ranks.size)
    return attention


class _Look:
    """Tokens that attend to given rows and to each other, one layer after the other; touches no page.

    Args:
        covered: int64 [M], positions of the rows.
        positions: int64 [P], of the tokens.
        num_suffix: how many of the tokens, the last ones, have their attention recorded.

    Attributes:
        total: float32 [num_suffix, M], attention summed over layers, each a mean over this rank's heads.
    """

    def __init__(
        self, covered: torch.Tensor, positions: torch.Tensor, num_suffix: int, runner: LayerRunner
    ) -> None:
        self.covered = covered
        self.total = torch.zeros(num_suffix, len(covered), device=runner.device)
        self._runner = runner
        self._positions = positions.to(runner.device)
        # [P, M + P]: distance from each token back to each given row, then to each token.
        self._distance = self._positions[:, None] - torch.cat([covered, positions]).to(runner.device)
        self._attentions: dict[int | None, OpenAttention] = {}  # by window

    def at(
        self,
        layer: int,
        stream: Stream,
        keys: torch.Tensor,
        values: torch.Tensor,
        *,
        is_wanted: bool,
        is_last: bool,
    ) -> Stream:
        """One layer.

        Args:
            stream: of the tokens, [P, hidden].
            keys, values: [M + P, H, D]; the last P rows are overwritten with the tokens' own.
            is_wanted: add the attention of this layer to the total.
            is_last: the layer's output is not used: stop once the weights are known.

        Returns:
            The stream behind the layer (before it, for the last one).
        """
        runner, num_given = self._runner, len(self.covered)
        attention = self._attention(runner.window(layer))
        impl: Any = runner.attentions[layer].impl

        def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any) -> torch.Tensor:
            shape = (len(self._positions), -1, runner.head_size)
            keys[num_given:], values[num_given:] = key.reshape(shape), value.reshape(shape)
            soft_cap = getattr(impl, "logits_soft_cap", None)
            weights = attention.weigh(query.reshape(shape), keys, impl.scale, soft_cap)  # [Hq, P, M + P]
            if is_wanted:
                self.total += weights[:, -len(self.total) :, :num_given].mean(0)
            if is_last:
                raise LayerLeft
            return mix(weights, values).flatten(1)

        with suppress(LayerLeft):
            stream = runner.run_attending(layer, self._positions, stream, attend)
        return stream

    def _attention(self, window: int | None) -> OpenAttention:
        if window not in self._attentions:
            visible = self._distance >= 0
            if window is not None:
                visible &= self._distance < window
            self._attentions[window] = OpenAttention(visible)
        return self._attentions[window]
