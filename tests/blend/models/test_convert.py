"""A GGUF file becomes the model it was made from: same logits, same tokens, and nothing half done."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from blend.errors import ModelError
from blend.models.convert import convert_gguf
from tests.blend.models.conftest import CHAT_TEMPLATE
from tests.support.gguf_writer import interleave, write_gguf

IDS = torch.tensor([[5, 17, 200, 33, 81, 7, 150, 99, 4, 260]])


@pytest.fixture
def gguf_file(tmp_path: Path, llama: LlamaForCausalLM, byte_level: Tokenizer) -> Path:
    return write_gguf(tmp_path / "tiny.gguf", llama, byte_level, CHAT_TEMPLATE)


@torch.inference_mode()
def test_a_model_that_went_through_gguf_gives_the_same_logits(
    gguf_file: Path, tmp_path: Path, llama: LlamaForCausalLM
) -> None:
    convert_gguf(gguf_file, tmp_path / "out")
    back = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert back.dtype == torch.float32
    torch.testing.assert_close(back(IDS).logits, llama(IDS).logits, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_the_logits_test_would_see_a_wrong_rotary_layout(llama: LlamaForCausalLM) -> None:
    right = llama(IDS).logits.clone()
    for layer in llama.model.layers:
        for projection, heads in ((layer.self_attn.q_proj, 4), (layer.self_attn.k_proj, 2)):
            projection.weight.copy_(interleave(projection.weight, heads))
    assert not torch.allclose(llama(IDS).logits, right, rtol=1e-2, atol=1e-2)


def test_the_folder_holds_a_plain_model_with_tokenizer_and_chat_template(
    gguf_file: Path, tmp_path: Path, byte_level: Tokenizer
) -> None:
    convert_gguf(gguf_file, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["dtype"] == "float32"
    assert config["rope_parameters"]["rope_theta"] == 5000.0
    assert not {"quantization_config", "_name_or_path", "_model_name_or_path"} & set(config)
    assert str(tmp_path) not in json.dumps(config)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.chat_template == CHAT_TEMPLATE
    text = "<|im_start|>user\nthe capital of France<|im_end|>"
    assert tokenizer.encode(text, add_special_tokens=False) == byte_level.encode(text).ids


def test_a_conversion_says_nothing(
    gguf_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    convert_gguf(gguf_file, tmp_path / "out")
    assert capfd.readouterr() == ("", "")


def test_rotary_scaling_that_the_loader_would_drop_is_refused(
    tmp_path: Path, llama: LlamaForCausalLM, byte_level: Tokenizer
) -> None:
    scaled = write_gguf(tmp_path / "scaled.gguf", llama, byte_level, CHAT_TEMPLATE, scaling=4.0)
    with pytest.raises(ModelError, match=r"rotary scaling .*linear"):
        convert_gguf(scaled, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_truncated_file_is_an_error_and_leaves_no_folder(gguf_file: Path, tmp_path: Path) -> None:
    whole = gguf_file.read_bytes()
    gguf_file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"tiny\.gguf"):
        convert_gguf(gguf_file, tmp_path / "models" / "out")
    assert not list((tmp_path / "models").rglob("*"))


@pytest.mark.slow
def test_a_killed_conversion_leaves_nothing_that_is_taken_for_whole(gguf_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "out"
    # Dies in the middle of saving, as by a kill: no clean-up runs.
    script = (
        "import os, pathlib, transformers\n"
        "from blend.models.convert import convert_gguf\n"
        "transformers.PreTrainedTokenizerFast.save_pretrained = lambda *a, **k: os._exit(9)\n"
        f"convert_gguf(pathlib.Path({str(gguf_file)!r}), pathlib.Path({str(folder)!r}))\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    leftovers = [path.name for path in folder.parent.iterdir()]
    assert len(leftovers) == 1
    assert leftovers[0].startswith(".out.")
    old = time.time() - 7200
    os.utime(folder.parent / leftovers[0], (old, old))
    convert_gguf(gguf_file, folder)
    assert [path.name for path in folder.parent.iterdir()] == ["out"]


@pytest.mark.slow
def test_two_conversions_at_once_both_end_well(gguf_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "out"
    script = (
        "import pathlib\nfrom blend.models.convert import convert_gguf\n"
        f"convert_gguf(pathlib.Path({str(gguf_file)!r}), pathlib.Path({str(folder)!r}))\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    assert [path.name for path in folder.parent.iterdir()] == ["out"]
    assert AutoModelForCausalLM.from_pretrained(folder).config.hidden_size == 32
