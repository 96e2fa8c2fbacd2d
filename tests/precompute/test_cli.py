"""The command: usage, errors before anything slow, and one whole run with the real engine."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from blend.models.fingerprint import resolve_dtype
from blend.models.resolve import resolve
from blend.settings.defaults import DEFAULT_MODEL
from precompute.cli import add_parser, run
from tests.support.shared_server import Precomputed

ROOT = Path(__file__).parents[2]


def parse(*args: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    return parser.parse_args(["precompute", *args])


def test_defaults() -> None:
    args = parse("docs", "--collection", "c")
    assert (args.folder, args.collection, args.json) == (Path("docs"), "c", False)
    assert (args.store, args.model, args.chunk_tokens, args.prefix, args.embedder) == (None,) * 5


@pytest.mark.parametrize(
    "args",
    [
        ["docs"],
        ["--collection", "c"],
        ["docs", "--collection", "../c"],
        ["docs", "--collection", "c", "--chunk", "64"],
    ],
)
def test_wrong_usage_is_status_2(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse(*args)
    assert exit_.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["missing", "file", "empty"])
def test_a_wrong_folder_is_one_line_before_a_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    folder = tmp_path / "docs"
    if kind == "file":
        folder.write_text("x")
    elif kind == "empty":
        folder.mkdir()
    assert run(parse(str(folder), "--collection", "c", "--store", str(tmp_path / "store"))) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"kvblend precompute: {folder}")
    assert err.count("\n") == 1
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("value", "expected"), [("15", "greater than or equal to 16"), ("many", "a valid int")]
)
def test_a_chunk_size_that_makes_no_sense(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: str, expected: str
) -> None:
    assert run(parse(str(tmp_path), "--collection", "c", "--chunk-tokens", value)) == 1
    err = capsys.readouterr().err
    assert f"--chunk-tokens: chunk_tokens: got '{value}', expected {expected}" in err and err.count("\n") == 1


def test_the_settings_file_is_in_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVBLEND_CONFIG", "")  # what the flag sets is taken back
    file = tmp_path / "kvblend.yaml"
    file.write_text("precompute:\n  chunk_tokens: 3\n")
    assert run(parse(str(tmp_path), "--collection", "c", "--config", str(file))) == 1
    assert f"{file}:2: chunk_tokens: got 3, expected" in capsys.readouterr().err


def test_a_prefix_file_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("x")
    assert run(parse(str(tmp_path), "--collection", "c", "--prefix", str(tmp_path / "none"))) == 1
    assert "cannot read the prefix file" in capsys.readouterr().err


def test_help_loads_neither_torch_nor_vllm() -> None:
    code = "import sys, precompute.cli; print({'torch', 'vllm', 'transformers', 'faiss'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.engine
@pytest.mark.model
def test_a_whole_run(precomputed: Precomputed) -> None:
    assert "unreadable: bad.txt: not text" in precomputed.errors
    said = [json.loads(line) for line in precomputed.output.splitlines()][-1]
    assert precomputed.status == 3
    assert said["computed"] == said["chunks"] > 9
    assert said["tokens_per_s"] > 0
    dtype = getattr(torch, resolve_dtype(resolve(DEFAULT_MODEL).path))
    # SmolLM2-135M, two versions: keys and values of 30 layers, 3 heads of 64.
    assert said["bytes"] == 2 * said["tokens"] * 30 * 2 * 3 * 64 * dtype.itemsize
