"""One file for everything: `kvblend.yaml`, below the environment and flags; and `kvblend config` shows it."""

import json
from pathlib import Path

import pytest

from api.cli.main import main
from api.server.settings import ServeConfig, check_flags, command_line, load_serve_config
from api.server.surface.limits import Limits
from blend.errors import ConfigError
from blend.store.config import load_config


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder's `kvblend.yaml`, in an environment that says nothing else."""
    monkeypatch.setenv("KVBLEND_CACHE", str(tmp_path))
    for name in ("KVBLEND_CONFIG", "KVBLEND_STORE", "KVBLEND_STORE_CONFIG", "KVBLEND_SERVE_DRAIN_S"):
        monkeypatch.setenv(name, "")  # also what a test itself sets is taken back then
        monkeypatch.delenv(name)
    return tmp_path / "kvblend.yaml"


def test_nothing_said():
    config, found = load_serve_config({})
    assert config == ServeConfig()
    assert config.limits == Limits()
    assert set(found.sources.values()) == {"default"}


def test_file_environment_flag(file: Path, monkeypatch: pytest.MonkeyPatch):
    file.write_text(
        "serve:\n  collections: [docs]\n  drain_s: 5\n  max_body_bytes: 1MiB\n  key_file: keys\n"
        "  share_blends: no\n  recompute_ratio: auto\n  vllm: {port: 9}\nstore:\n  disk_bytes: 1GB\n"
    )
    config, found = load_serve_config({})
    assert (config.collections, config.drain_s, config.recompute_ratio) == (("docs",), 5.0, "auto")
    assert (config.share_blends, config.vllm) == ("no", {"port": 9})
    assert config.limits.body_bytes == 1 << 20
    assert config.key_file == file.parent / "keys"
    assert found.sources["drain_s"] == str(file)
    monkeypatch.setenv("KVBLEND_SERVE_DRAIN_S", "6")
    assert load_serve_config({})[0].drain_s == 6
    config, found = load_serve_config({"drain_s": "7", "model": None})
    assert (config.drain_s, found.sources["drain_s"], config.model) == (7, "--drain-s", None)
    stored = load_config({})
    assert (stored.config.disk_bytes, stored.sources["disk_bytes"]) == (10**9, str(file))
    (file.parent / "store.yaml").write_text("disk_bytes: 2GB\n")
    assert load_config({}).config.disk_bytes == 2 * 10**9


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("serve: {colection: [a]}", "unknown key colection in .*, did you mean collections"),
        ("serv: {}", "unknown key serv in .*, did you mean serve"),
        ("store: {disk_byte: 1}", "unknown key disk_byte in .*, did you mean disk_bytes"),
        ("serve: 7", "expected keys and values"),
        ("[]\n- a", "cannot read"),
        ("- a", "expected the sections serve, store"),
        ("serve: {drain_s: soon}", "got 'soon', expected a number of seconds"),
        ("serve: {drain_s: .inf}", "expected a number of seconds"),
        ("serve: {always_blend: 7}", "expected true or false"),
        ("serve: {collections: [7]}", "expected a list of names"),
        ("serve: {recompute_ratio: 2}", "got .*2"),
        ("serve: {share_blends: maybe}", "expected one of: no"),
        ("serve: {max_json_depth: 100000}", "at most 500"),
        ("serve: {max_body_bytes: 0}", "from 1 up"),
        ("serve: {vllm: [a]}", "expected flags"),
        ("serve: {model: []}", "expected text"),
    ],
)
def test_what_makes_no_sense_is_an_error_that_names_it(file: Path, text: str, message: str):
    file.write_text(text)
    load = load_config if "disk_byte" in text else load_serve_config
    with pytest.raises(ConfigError, match=message):
        load({})


def test_a_variable_that_is_no_setting(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KVBLEND_SERVE_VLLM", "{}")
    with pytest.raises(ConfigError, match="unknown key KVBLEND_SERVE_VLLM"):
        load_serve_config({})


def test_vllms_flags_become_its_command_line():
    flags = {"max_model_len": 9, "x": {"a": [1]}, "quiet": False, "on": True, "many": [1, 2]}
    line = ["--max-model-len", "9", "--x", '{"a": [1]}', "--no-quiet", "--on", "--many", "1", "2"]
    assert command_line(flags) == line


def test_a_flag_of_vllms_that_nobody_knows():
    known = ("--max-model-len", "--port", "--api-key")
    check_flags(["--max_model_len", "-7", "--po", "8000", "a--b"], known)
    with pytest.raises(ConfigError, match="unknown flag --max-modle-len, did you mean --max-model-len"):
        check_flags(["--port", "1", "--max-modle-len"], known)


def test_the_command_shows_what_is_in_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    named = tmp_path / "other.yaml"
    named.write_text(
        "serve: {vllm: {api_key: s3cret}}\nstore: {remote: 'redis://:swordfish@host:1/0', path: chunks}\n"
    )
    assert main(["config", "--config", str(named), "--log-format", "json", "--json"]) == 0
    said = capsys.readouterr().out
    assert "s3cret" not in said and "swordfish" not in said
    found = json.loads(said)
    assert found["serve"]["log_format"] == {"value": "json", "source": "--log-format"}
    assert found["store"]["path"] == {"value": str(tmp_path / "chunks"), "source": str(named)}
    assert found["serve"]["drain_s"] == {"value": 30.0, "source": "default"}
    assert main(["config", "--config", str(named)]) == 0
    assert "serve.log_format  " in capsys.readouterr().out
    assert main(["config", "--config", str(tmp_path / "missing.yaml")]) == 1
