"""A fingerprint changes with what changes a number, and with nothing else."""

import json
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import pytest
import torch

from blend.errors import ConfigError, ModelError
from blend.models import digest as digest_module
from blend.models.digest import file_digest
from blend.models.fingerprint import DTYPE_VARIABLE, DTYPES, fingerprint, resolve_dtype


def edit(folder: Path, **settings: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))


def flip_a_bit(file: Path, at: int = -1) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: edit(folder, rope_parameters={"rope_type": "default", "rope_theta": 5001.0}),
        lambda folder: edit(folder, rms_norm_eps=1e-3),
        lambda folder: edit(folder, a_key_of_the_future=1),
        lambda folder: flip_a_bit(folder / "model.safetensors"),
        lambda folder: (folder / "more.safetensors").write_bytes(b"weights"),
    ],
)
def test_it_changes_with_what_the_numbers_depend_on(
    llama_folder: Path, change: Callable[[Path], None]
) -> None:
    before = fingerprint(llama_folder, "float32")
    change(llama_folder)
    assert fingerprint(llama_folder, "float32") != before


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: edit(folder, transformers_version="9.9", _name_or_path="elsewhere", use_cache=False),
        lambda folder: edit(folder, dtype="bfloat16"),
        lambda folder: flip_a_bit(folder / "tokenizer.json", at=0),
        lambda folder: (folder / "README.md").write_text("a model"),
    ],
)
def test_it_does_not_change_with_names_versions_and_the_tokenizer(
    llama_folder: Path, change: Callable[[Path], None]
) -> None:
    before = fingerprint(llama_folder, "float32")
    change(llama_folder)
    assert fingerprint(llama_folder, "float32") == before


def test_it_depends_on_the_dtype_in_force_and_not_on_the_place(llama_folder: Path) -> None:
    before = fingerprint(llama_folder, "float32")
    assert fingerprint(llama_folder, "bfloat16") != before
    moved = llama_folder.rename(llama_folder.with_name("moved"))
    assert fingerprint(moved, "float32") == before
    assert len(before) == 64


def test_a_second_start_reads_no_weights(llama_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(llama_folder, "float32")

    def must_not_run(*_: object) -> None:
        raise AssertionError("the weights were read again")

    monkeypatch.setattr(digest_module.hashlib, "file_digest", must_not_run)
    assert fingerprint(llama_folder, "float32") == before
    flip_a_bit(llama_folder / "model.safetensors")
    with pytest.raises(AssertionError, match="read again"):
        fingerprint(llama_folder, "float32")


def test_a_damaged_or_unwritable_note_costs_time_and_nothing_else(
    llama_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = file_digest(llama_folder / "model.safetensors")
    for content in ("", "[]", '{"state": {}, "sha256": "00"}', "{"):
        for note in (cache / "digests").iterdir():
            note.write_text(content)
        assert file_digest(llama_folder / "model.safetensors") == before
    monkeypatch.setenv("KVBLEND_CACHE", str(llama_folder / "config.json" / "no-folder"))
    assert file_digest(llama_folder / "model.safetensors") == before


def test_a_folder_without_weights_or_configuration_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no weights"):
        fingerprint(tmp_path, "float32")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"config\.json"):
        fingerprint(tmp_path, "float32")
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ModelError, match="expected an object"):
        fingerprint(tmp_path, "float32")


@pytest.mark.parametrize(
    ("feature", "stored", "expected"),
    [
        (None, "float32", "float32"),
        (None, "bfloat16", "float32"),
        ("avx512_bf16", "bfloat16", "bfloat16"),
        ("avx512_bf16", "float32", "bfloat16"),
        ("amx_bf16", "bfloat16", "bfloat16"),
        ("bf16", "float16", "bfloat16"),
    ],
)
def test_cpus_without_native_bfloat16_compute_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, feature: str | None, stored: str, expected: str
) -> None:
    monkeypatch.delenv(DTYPE_VARIABLE, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: MappingProxyType({feature: True, "avx2": True})
    )
    (tmp_path / "config.json").write_text(json.dumps({"dtype": stored}))
    assert resolve_dtype(tmp_path) == expected


@pytest.mark.parametrize(
    ("native", "settings", "expected"),
    [
        (True, {"dtype": "bfloat16"}, "bfloat16"),
        (True, {"torch_dtype": "float16"}, "float16"),
        (True, {"text_config": {"torch_dtype": "float16"}}, "float16"),
        (True, {"dtype": "float32"}, "bfloat16"),
        (False, {"dtype": "bfloat16"}, "float16"),
    ],
)
def test_gpus_compute_in_the_16_bit_dtype_that_they_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, native: bool, settings: dict[str, object], expected: str
) -> None:
    monkeypatch.delenv(DTYPE_VARIABLE, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert resolve_dtype(tmp_path) == expected


def test_a_dtype_can_be_named_for_all_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"dtype": "float16"}))
    for named in ("float32", "bfloat16"):
        monkeypatch.setenv(DTYPE_VARIABLE, named)
        assert resolve_dtype(tmp_path) == named
    monkeypatch.setenv(DTYPE_VARIABLE, "")
    assert resolve_dtype(tmp_path) in DTYPES
    monkeypatch.setenv(DTYPE_VARIABLE, "bf16")
    with pytest.raises(ConfigError, match="got KVBLEND_DTYPE='bf16', expected one of float32"):
        resolve_dtype(tmp_path)
