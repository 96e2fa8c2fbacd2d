"""Converts a GGUF file to a Hugging Face folder, once per file.

GGUF stores the query and key projections of Llama-like models with interleaved rotary pairs, which the loader
of transformers undoes. transformers refuses to save a model that it loaded from GGUF, so the weights are
moved into a new model that was never quantised, and that model is saved.
"""

import contextlib
import io
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from blend.errors import ModelError

logger = logging.getLogger(__name__)

_LEFTOVER_S = 3600.0
_PACKAGES = ("accelerate", "gguf")  # transformers loads GGUF through both


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write a GGUF model as float32 safetensors, with its configuration, tokenizer and chat template.

    The folder appears complete or not at all; if two processes convert at once, the first result stays.

    Args:
        gguf: the file to convert.
        folder: the new model folder; must not exist, or hold the same model.

    Raises:
        ModelError: the file is not GGUF, the conversion would lose its architecture or rotary scaling, or the
            packages that read GGUF are not installed.
    """
    if missing := [name for name in _PACKAGES if find_spec(name) is None]:
        raise ModelError(f"{gguf.name} needs {' and '.join(missing)}: pip install 'kvblend[gguf]'")
    logger.info("converting %s to safetensors, once", gguf.name)
    _check_rotary(gguf)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    work = Path(tempfile.mkdtemp(dir=folder.parent, prefix=_prefix(folder)))
    try:
        with _quiet():
            _write(gguf, work)
        _publish(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _check_rotary(gguf: Path) -> None:
    from gguf import GGUFReader

    # The loader of transformers reads the rotary base and drops the scaling: wrong numbers without a warning.
    try:
        reader = GGUFReader(gguf)
    except (OSError, ValueError, IndexError) as error:
        raise ModelError(f"cannot read {gguf} as GGUF ({error}): expected a complete .gguf file") from error
    kind = next(
        (field.contents() for name, field in reader.fields.items() if name.endswith("rope.scaling.type")),
        "none",
    )
    scaled = [tensor.name for tensor in reader.tensors if tensor.name.startswith("rope_f")]
    if kind != "none" or scaled:
        found = ", ".join([*scaled, f"rope.scaling.type {kind}"])
        raise ModelError(
            f"{gguf.name} has rotary scaling ({found}), which is lost "
            "when a GGUF file is converted: use the model's Hugging Face folder or hub id instead"
        )


def _write(gguf: Path, folder: Path) -> None:
    loader: Any = AutoModelForCausalLM  # its annotation lacks output_loading_info
    try:
        loaded, report = loader.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    except (ValueError, NotImplementedError, KeyError) as error:
        raise ModelError(
            f"{gguf.name} cannot be converted ({error}): use a Hugging Face folder instead"
        ) from error
    if report["missing_keys"]:
        raise ModelError(f"{gguf.name} lacks weights: {', '.join(sorted(report['missing_keys']))}")
    _plain(loaded).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _plain(loaded: PreTrainedModel) -> PreTrainedModel:
    """The same weights in a model without any sign of quantisation."""
    config = type(loaded.config).from_dict(_strip(loaded.config.to_dict()))
    with torch.device("meta"):  # no second copy of the weights
        plain = type(loaded)(config)
    plain.load_state_dict(loaded.state_dict(), strict=True, assign=True)
    plain.tie_weights()
    plain.generation_config = loaded.generation_config
    return plain


def _strip(config: dict[str, Any]) -> dict[str, Any]:
    dropped = ("quantization_config", "_name_or_path", "_model_name_or_path")
    return {key: value for key, value in config.items() if key not in dropped}


def _publish(work: Path, folder: Path) -> None:
    try:
        os.rename(work, folder)
    except OSError:
        # Another process was first: rename cannot replace a folder that is not empty.
        if not (folder / "config.json").is_file():
            raise


def _sweep(folder: Path) -> None:
    """Remove the folders of conversions of this model that were killed."""
    for leftover in folder.parent.glob(f"{_prefix(folder)}*"):
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime > _LEFTOVER_S:
                shutil.rmtree(leftover, ignore_errors=True)


def _prefix(folder: Path) -> str:
    return f".{folder.name}."


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the loader's progress bars and warnings; errors are raised, not printed."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        # The bars come from tqdm, which cannot be switched off after import and writes to sys.stderr.
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
