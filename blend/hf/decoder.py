"""Runs a Hugging Face decoder on chosen tokens of a context.

The model's own forward does all the arithmetic. It gets two things from here: a mask that lets every token
see the positions at or before its own, and a cache that asks at each layer for the rows to attend to.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Cache, PreTrainedModel

from blend.errors import ModelError, NotBlendable
from blend.maths.rope import realign, rotation

Attend = Callable[[int, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""From a layer's index and the fresh keys and values [S, H, D] of the running tokens to the keys and values
[N, H, D] that they attend to. Called once per layer, before its attention."""

_MASKED_ATTENTION = ("sdpa", "eager", "kvblend_question_probe")
_MEASURED_TOKENS = 8
_LAYOUT_TOLERANCE = 0.03
"""A wrong layout is off by about one; bfloat16, the coarsest dtype, by less than 0.01."""


@dataclass(frozen=True, slots=True)
class KVLayout:
    """What a model's keys and values look like, and how its keys are rotated.

    Attributes:
        table: float32 [P, R], see `blend.maths.rope.rotation`.
        interleaved: whether rotated pairs are neighbours.
    """

    num_layers: int
    num_heads: int
    head_size: int
    dtype: torch.dtype
    device: torch.device
    table: torch.Tensor
    interleaved: bool


class _AskingCache(Cache):
    """A cache without content: a layer attends to what `attend` returns."""

    def __init__(self, attend: Attend) -> None:
        super().__init__(layers=[])
        self._attend = attend

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *args: object,
        **kwargs: object,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        fresh = (key_states[0].transpose(0, 1), value_states[0].transpose(0, 1))  # [S, H, D]
        keys, values = self._attend(layer_idx, *fresh)
        return keys.transpose(0, 1)[None], values.transpose(0, 1)[None]  # [1, H, N, D]


class Stop(Exception):
    """Raised inside a forward to stop it once the wanted values are known."""


def decoder_of(model: PreTrainedModel) -> Any:
    """The stack of layers below the language model's head, by whatever name the family uses."""
    return model.get_decoder()  # type: ignore[no-untyped-call]


def run(
    model: PreTrainedModel,
    token_ids: torch.Tensor,
    positions: torch.Tensor,
    columns: torch.Tensor,
    attend: Attend,
) -> None:
    """Run tokens through all layers, each seeing the rows at or before its own position.

    Args:
        token_ids: int64 [S].
        positions: int64 [S], where they stand in the context.
        columns: int64 [N], where the rows stand that `attend` returns.

    Raises:
        ModelError: the model's attention implementation does not accept a mask.
    """
    if model.config._attn_implementation not in _MASKED_ATTENTION:
        raise ModelError(
            f"got attention implementation {model.config._attn_implementation!r}, expected one of "
            "sdpa, eager; load the model with attn_implementation='sdpa'"
        )
    hidden_from = columns > positions[:, None]  # [S, N]
    mask = torch.zeros(hidden_from.shape, dtype=model.dtype).masked_fill(hidden_from, -torch.inf)
    decoder_of(model)(
        input_ids=token_ids.to(model.device)[None],
        position_ids=positions.to(model.device)[None],
        attention_mask=mask.to(model.device)[None, None],
        past_key_values=_AskingCache(attend),
        use_cache=True,
    )


def project(
    model: PreTrainedModel, token_ids: Sequence[int], layer: int, first_position: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values [N, H, D] of one layer in a full prefill of these tokens; runs no layer above it."""
    found: list[tuple[torch.Tensor, torch.Tensor]] = []

    def attend(index: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if index == layer:
            found.append((keys, values))
            raise Stop
        return keys, values

    positions = torch.arange(first_position, first_position + len(token_ids))
    with suppress(Stop):
        run(model, torch.tensor(token_ids), positions, positions, attend)
    return found[0]


def kv_layout(model: PreTrainedModel, token_ids: Sequence[int], num_positions: int) -> KVLayout:
    """Measure the layout by projecting a few of the context's tokens.

    The configuration does not say which of the two rotary layouts a model has. Layer 0's keys depend on token
    and position only, so rotating them by one position must give the model's own keys one position on.

    Args:
        token_ids: the context, not empty.
        num_positions: rows of the rotary table, at least 2.

    Raises:
        NotBlendable: its keys do not turn as its rotary module says, in neither layout.
    """
    decoder = decoder_of(model)
    inv_freq = getattr(getattr(decoder, "rotary_emb", None), "inv_freq", None)
    if inv_freq is None:
        raise NotBlendable(f"{model.config.model_type}: its decoder has no rotary module with `inv_freq`")
    table = _rotary_table(inv_freq, num_positions)
    here, _ = project(model, token_ids[:_MEASURED_TOKENS], layer=0)
    there, _ = project(model, token_ids[:_MEASURED_TOKENS], layer=0, first_position=1)
    moved_by = rotation(table, 1)
    errors = {layout: _relative_error(realign(here, moved_by, layout), there) for layout in (False, True)}
    interleaved = errors[True] < errors[False]
    if not errors[interleaved] < _LAYOUT_TOLERANCE:
        raise NotBlendable(
            f"{model.config.model_type}: its keys do not turn as its rotary module says "
            f"(relative error {errors[interleaved]:.2g} one position on, expected under {_LAYOUT_TOLERANCE})"
        )
    num_layers, (_, num_heads, head_size) = len(decoder.layers), here.shape
    return KVLayout(num_layers, num_heads, head_size, here.dtype, here.device, table, interleaved)


def _rotary_table(inv_freq: torch.Tensor, num_positions: int) -> torch.Tensor:
    positions = torch.arange(num_positions, device=inv_freq.device, dtype=torch.float32)
    angles = positions[:, None] * inv_freq.float()  # [P, R / 2]
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def _relative_error(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got.float() - expected.float()).norm() / expected.float().norm())
