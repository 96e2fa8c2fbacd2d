"""The fingerprint of a model: a digest of everything its numbers depend on; and its dtype on this machine."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch

from blend.errors import ConfigError, ModelError
from blend.models.digest import file_digest

DTYPE_VARIABLE = "KVBLEND_DTYPE"
"""Sets the dtype of all models, instead of the one that suits the machine."""

DTYPES = ("float32", "bfloat16", "float16")

# Keys of config.json that do not affect keys and values. All other keys count: an unknown key can make two
# fingerprints differ needlessly, but can never make two models share one.
_COSMETIC = frozenset(
    {
        "_model_name_or_path",
        "_name_or_path",
        "architectures",
        "auto_map",
        "bos_token_id",
        "dtype",  # the dtype in force counts instead
        "eos_token_id",
        "id2label",
        "label2id",
        "pad_token_id",
        "torch_dtype",
        "transformers_version",
        "unk_token_id",
        "use_cache",
    }
)


def fingerprint(path: Path, dtype: str) -> str:
    """Digest of the weights, of the architecture with its rotary parameters, and of the dtype.

    Tokenizer, names and versions do not count: every chunk id covers the chunk's token ids.

    Args:
        path: a local Hugging Face folder with safetensors weights.
        dtype: in which the model is computed, such as "float32".

    Returns:
        64 hexadecimal digits.

    Raises:
        ModelError: the folder holds no configuration or no safetensors weights.
    """
    weights = sorted(path.glob("*.safetensors"))
    if not weights:
        raise ModelError(
            f"no weights in {path}: expected *.safetensors files; convert the model to safetensors"
        )
    digest = hashlib.sha256()
    digest.update(json.dumps([dtype, _counting(_config(path))], sort_keys=True).encode())
    for file in weights:
        digest.update(bytes.fromhex(file_digest(file)))
    return digest.hexdigest()


def resolve_dtype(path: Path) -> str:
    """The dtype in which a model is computed on this machine: `$KVBLEND_DTYPE` if it is set.

    Otherwise float32 on CPUs that only emulate bfloat16, which is four times slower. On other devices the
    model's own 16-bit dtype if the device supports it; weights stored as float32 are computed in 16 bits
    there, as with vLLM's own `auto`.

    Args:
        path: a local Hugging Face folder.

    Raises:
        ModelError: the folder holds no configuration.
        ConfigError: `$KVBLEND_DTYPE` is not a supported dtype.
    """
    if chosen := os.environ.get(DTYPE_VARIABLE):
        return _checked(chosen)
    config = _config(path)
    stored = config.get("dtype") or config.get("torch_dtype") or _stored_in_text_part(config)
    if torch.cuda.is_available():
        half = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
        return "float16" if stored == "float16" else half
    return "bfloat16" if has_native_bfloat16() else "float32"


def _checked(dtype: str) -> str:
    if dtype not in DTYPES:
        raise ConfigError(
            f"got {DTYPE_VARIABLE}={dtype!r}, expected one of {', '.join(DTYPES)}; unset it for the dtype "
            "that suits this machine"
        )
    return dtype


def has_native_bfloat16() -> bool:
    """Whether this CPU computes bfloat16 natively instead of emulating it."""
    features = torch.cpu.get_capabilities()
    return any(features.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))


def _stored_in_text_part(config: dict[str, Any]) -> object:
    text = config.get("text_config") or {}
    return text.get("dtype") or text.get("torch_dtype")


def _counting(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without its cosmetic keys, at every depth.

    >>> _counting({"hidden_size": 64, "use_cache": True, "text_config": {"torch_dtype": "float16"}})
    {'hidden_size': 64, 'text_config': {}}
    """
    return {
        key: _counting(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if key not in _COSMETIC
    }


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"no readable config.json in {path} ({error}): expected a Hugging Face model folder"
        ) from error
    if not isinstance(config, dict):
        raise ModelError(f"{path / 'config.json'} holds {type(config).__name__}, expected an object")
    return config
