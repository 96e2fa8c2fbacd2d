"""Tiny random decoders of the families that are blended, in float32."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    GlmConfig,
    GlmForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCAB_SIZE = 200

_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
    # Attention scores spread by about 1.5: far from uniform, so that a wrong mask or position shows.
    "initializer_range": 0.15,
}
_LLAMA3_SCALING = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

Family = tuple[type[PreTrainedModel], Callable[..., PretrainedConfig]]

FAMILIES: dict[str, Family] = {
    "llama": (LlamaForCausalLM, LlamaConfig),
    "qwen2-biases": (Qwen2ForCausalLM, Qwen2Config),
    "qwen3-qk-norm": (Qwen3ForCausalLM, Qwen3Config),
    "llama3-scaling": (LlamaForCausalLM, partial(LlamaConfig, rope_parameters=_LLAMA3_SCALING)),
}

ODD_FAMILIES: dict[str, Family] = {
    # Rotated pairs are neighbours, and only half of each head is rotated.
    "glm": (GlmForCausalLM, partial(GlmConfig, partial_rotary_factor=0.5)),
    # Embeddings are scaled between the table and the first layer.
    "gemma": (GemmaForCausalLM, GemmaConfig),
}
"""Families that differ where a blend could go wrong; some tests are enough for them."""


def tiny_model(family: str, seed: int = 0, head_size: int = 16) -> PreTrainedModel:
    """A random model of a family; the same seed gives the same weights."""
    model_class, config_class = (FAMILIES | ODD_FAMILIES)[family]
    width = {"head_dim": head_size, "hidden_size": head_size * _SIZES["num_attention_heads"]}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _build(model_class, config_class(**_SIZES | width))


def _build(model_class: type[PreTrainedModel], config: PretrainedConfig) -> PreTrainedModel:
    model = model_class(config).eval().float()
    for parameter in model.parameters():
        if parameter.ndim == 1:  # biases start at zero and norms at one, which would hide a mistake
            parameter.data.add_(0.2 * torch.randn_like(parameter))
    return model
