"""Decides from a model's configuration whether its KV can be blended.

A blend needs three things: every layer keeps one key and one value per token and head; every token attends to
all tokens before it; and a key is rotated by an angle that depends on its position only.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from blend.errors import NotBlendable

STATIC_ROTARY = ("default", "linear", "llama3", "yarn", "proportional")
"""Rotary scalings whose angles are fixed when the model is loaded."""

_LAYER_LISTS = ("layer_types", "layers_block_type", "block_types")
_RECURRENT = ("mamba", "linear_attention", "hybrid", "recurrent", "conv", "rwkv", "minimax_lightning")


def check_blendable(config: Any) -> None:
    """Accept a model, or raise with the reason why its KV cannot be blended.

    Args:
        config: a transformers configuration; for a composite model, its text part is checked.

    Raises:
        NotBlendable: names the model type and the reason.
    """
    text = config.get_text_config(decoder=True)
    for check in _CHECKS:
        reason = check(text)
        if reason is not None:
            raise NotBlendable(
                f"a {config.model_type} model cannot be blended: {reason}. It is served without blending; "
                "to blend, choose a decoder with full attention and static rotary positions in every layer"
            )


def _encoder(config: Any) -> str | None:
    if getattr(config, "is_encoder_decoder", False):
        return "it is an encoder-decoder"
    if getattr(config, "use_bidirectional_attention", None) in (True, "all"):
        return "its tokens attend to later ones"
    return None


def _latent(config: Any) -> str | None:
    if getattr(config, "kv_lora_rank", None):
        return "it uses multi-head latent attention (MLA), which keeps no keys and values per head"
    return None


def _layers(config: Any) -> str | None:
    kinds = _layer_kinds(config)
    if any(kind.startswith(_RECURRENT) for kind in kinds) or config.model_type.startswith(("mamba", "rwkv")):
        return "it has recurrent or linear-attention layers, which keep a state instead of keys and values"
    if any(kind.startswith(("sliding", "window")) for kind in kinds):
        return "it has sliding-window layers"
    if any(kind.startswith("chunked") for kind in kinds):
        return "it has layers with chunked attention"
    if others := sorted(kind for kind in kinds if kind not in ("full_attention", "attention")):
        return f"it has layers of a kind that is not known to work ({', '.join(others)})"
    return None


def _window(config: Any) -> str | None:
    # A window applies if the configuration lists it per layer (checked above) or, without a list, if it is
    # set and not switched off.
    if hasattr(config, "layer_types") or not getattr(config, "use_sliding_window", True):
        return None
    window = getattr(config, "sliding_window", None)
    return f"its layers attend through a sliding window of {window} tokens" if window else None


def _shared(config: Any) -> str | None:
    if getattr(config, "num_kv_shared_layers", 0):
        return "some of its layers use the keys and values of others"
    return None


def _positions(config: Any) -> str | None:
    if getattr(config, "alibi", False) or getattr(config, "position_embedding_type", None) == "alibi":
        return "its positions are attention biases (ALiBi), not rotary"
    if 0 in (getattr(config, "no_rope_layers", None) or ()):
        return "some of its layers have no rotary positions"
    scalings = _rotary(config)
    if not scalings and not getattr(config, "rotary_dim", None):
        return "it has no rotary positions"
    return next((reason for scaling in scalings if (reason := _scaling(scaling)) is not None), None)


def _scaling(parameters: Mapping[str, Any]) -> str | None:
    if parameters.get("mrope_section"):
        return "its rotary positions have several axes (M-RoPE)"
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    if kind in ("dynamic", "longrope"):
        return f"its rotary scaling ({kind}) depends on the length of the prompt"
    if kind not in STATIC_ROTARY:
        return f"its rotary scaling ({kind}) is not known to be static"
    return None


def _rotary(config: Any) -> tuple[Mapping[str, Any], ...]:
    """Rotary parameters: one mapping, or one per kind of layer."""
    parameters = getattr(config, "rope_parameters", None) or {}
    nested = tuple(value for value in parameters.values() if isinstance(value, Mapping))
    return nested or ((parameters,) if parameters else ())


def _layer_kinds(config: Any) -> set[str]:
    lists: Iterable[Any] = (getattr(config, name, None) or () for name in _LAYER_LISTS)
    return {kind for kinds in lists for kind in kinds}


_CHECKS: tuple[Callable[[Any], str | None], ...] = (_encoder, _latent, _layers, _window, _shared, _positions)
