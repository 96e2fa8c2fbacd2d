"""FLOPs up to the first token, of full prefill and of a blend.

Two per weight and token, four per number that a head attends to.

Axes: `L` layers, `Hq` query heads, `D` head size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from blend.select.base import MAX_PROBE_TOKENS, Selector, layers_of


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes of a model that its FLOPs depend on.

    Attributes:
        layer_weights: weights of a layer's matrices that a token passes.
        projection_weights: those of them that give queries, keys and values.
        head_weights: of the matrix that gives logits.
        attention_width: `Hq * D`.
    """

    num_layers: int
    layer_weights: int
    projection_weights: int
    head_weights: int
    attention_width: int


def shape_of(model: PreTrainedModel) -> ModelShape:
    """Sizes of a Hugging Face decoder of equal, dense layers."""
    config = model.config
    layer = model.get_decoder().layers[0]  # type: ignore[no-untyped-call]
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return ModelShape(
        num_layers=config.num_hidden_layers,
        layer_weights=sum(weight.numel() for weight in layer.parameters() if weight.ndim == 2),
        projection_weights=config.hidden_size
        * head_size
        * (config.num_attention_heads + 2 * config.num_key_value_heads),
        head_weights=config.vocab_size * config.hidden_size,
        attention_width=config.num_attention_heads * head_size,
    )


def shape_of_folder(path: Path | str) -> ModelShape:
    """Sizes of the decoder in a Hugging Face folder; no weights are read."""
    config = AutoConfig.from_pretrained(path)
    with torch.device("meta"):
        return shape_of(AutoModelForCausalLM.from_config(config))  # type: ignore[no-untyped-call]


def full_flops(shape: ModelShape, num_tokens: int) -> int:
    """Full prefill of a prompt, logits of its last token included.

    >>> full_flops(ModelShape(1, 10, 6, 100, 2), num_tokens=2)
    264
    """
    return _pass(shape, range(num_tokens), shape.num_layers) + 2 * shape.head_weights


def blend_flops(
    shape: ModelShape,
    selector: Selector | None,
    selected: Sequence[int],
    num_context: int,
    num_suffix: int,
) -> int:
    """A blend and the suffix behind it, as the engine computes them.

    The layers below a probe layer are computed for all rows, the selected ones among them. Of the last layer
    only the projections are computed: its output for context tokens is not used. Of the question probe's
    last layer only the attention weights are computed.

    Args:
        selector: None when only gaps are recomputed.
        selected: context positions that were computed.
    """
    probe_layer = 0 if selector is None else min(selector.probe_layer or 0, shape.num_layers - 1)
    flops = _pass(shape, range(num_context), probe_layer)
    if probe_layer:
        flops += 2 * shape.projection_weights * num_context
    flops += _pass(shape, selected, shape.num_layers - 1 - probe_layer)
    flops += 2 * shape.projection_weights * len(selected)
    if selector is not None and selector.question_layers is not None:
        deepest = layers_of(selector.question_layers, shape.num_layers)[-1]
        asking = _last(num_context, num_suffix, MAX_PROBE_TOKENS)
        flops += _pass(shape, asking, deepest) + _weights(shape, asking)
    suffix = _last(num_context, num_suffix, num_suffix)
    return flops + _pass(shape, suffix, shape.num_layers) + 2 * shape.head_weights


def _last(num_context: int, num_suffix: int, most: int) -> range:
    stop = num_context + num_suffix
    return range(stop - min(num_suffix, most), stop)


def _pass(shape: ModelShape, positions: Sequence[int], num_layers: int) -> int:
    """Tokens at these positions through layers; each sees all rows at or before its own."""
    return num_layers * (
        2 * shape.layer_weights * len(positions) + 4 * shape.attention_width * _seen(positions)
    )


def _weights(shape: ModelShape, positions: Sequence[int]) -> int:
    """Attention weights of these tokens at one layer, without the weighted sum of values."""
    return 2 * shape.projection_weights * len(positions) + 2 * shape.attention_width * _seen(positions)


def _seen(positions: Sequence[int]) -> int:
    return sum(positions) + len(positions)
