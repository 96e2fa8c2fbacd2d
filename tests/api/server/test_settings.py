"""One file for everything: `kvblend.yaml`, below the environment and flags; and `kvblend config` shows it."""

import argparse
import json
import re
from pathlib import Path

import pytest

from api.cli.config import GROUPS
from api.cli.main import main
from api.server.settings import ServeConfig
from api.server.vllm_flags import check_flags, command_line
from blend.errors import ConfigError
from blend.settings.group import SECTIONS, Group, add_flags, flags_given, settings_of
from blend.settings.load import load
from blend.store.config import StoreConfig


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder's `kvblend.yaml`, in an environment that sets nothing else."""
    monkeypatch.setenv("KVBLEND_CACHE", str(tmp_path))
    for name in ("KVBLEND_CONFIG", "KVBLEND_STORE", "KVBLEND_STORE_REMOTE", "KVBLEND_SERVE_DRAIN_S"):
        monkeypatch.setenv(name, "")  # also what a test itself sets is taken back then
        monkeypatch.delenv(name)
    return tmp_path / "kvblend.yaml"


def test_without_sources_each_setting_has_its_default():
    found = load(ServeConfig)
    assert found.settings == ServeConfig()
    assert set(found.origins.values()) == {"default"}


def test_file_environment_flag(file: Path, monkeypatch: pytest.MonkeyPatch):
    file.write_text(
        "serve:\n  collections: [docs]\n  drain_s: 5\n  max_body_bytes: 1MiB\n  key_file: keys\n"
        "  share_blends: no\n  recompute_ratio: auto\n  vllm: {port: 9}\nstore:\n  disk_bytes: 1GB\n"
    )
    found = load(ServeConfig)
    config = found.settings
    assert (config.collections, config.drain_s, config.recompute_ratio) == (("docs",), 5.0, "auto")
    assert (config.share_blends, config.vllm) == ("no", {"port": 9})
    assert config.max_body_bytes == 1 << 20
    assert config.key_file == file.parent / "keys"
    assert found.origins["drain_s"] == f"{file}:3"
    monkeypatch.setenv("KVBLEND_SERVE_DRAIN_S", "6")
    monkeypatch.setenv("KVBLEND_SERVE_COLLECTIONS", "a, b")
    monkeypatch.setenv("KVBLEND_SERVE_ALWAYS_BLEND", "yes")
    found = load(ServeConfig)
    assert (found.settings.drain_s, found.origins["drain_s"]) == (6, "$KVBLEND_SERVE_DRAIN_S")
    assert (found.settings.collections, found.settings.always_blend) == (("a", "b"), True)
    found = load(ServeConfig, {"drain_s": "7", "model": None})
    config = found.settings
    assert (config.drain_s, found.origins["drain_s"], config.model) == (7, "--drain-s", None)
    stored = load(StoreConfig)
    assert (stored.settings.disk_bytes, stored.origins["disk_bytes"]) == (10**9, f"{file}:10")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("serve: {colection: [a]}", "unknown setting colection in section serve, did you mean collections"),
        ("\nserv: {}", "kvblend.yaml:2: unknown section serv, did you mean serve"),
        ("serve: 7", "kvblend.yaml:1: section serve: got one int, expected keys and values"),
        ("[]\n- a", "cannot read"),
        ("- a", "got no sections, expected a mapping with: serve, store"),
        ("serve: {drain_s: soon}", "kvblend.yaml:1: drain_s: got 'soon', expected a valid number"),
        ("serve: {drain_s: .inf}", "got inf, expected a finite number"),
        ("serve: {drain_s: .nan}", "got nan, expected"),
        ("serve: {drain_s: true}", "got True, expected a number"),
        ("serve: {always_blend: 7}", "expected a valid boolean"),
        ("serve: {collections: [7]}", "collections: got 7, expected a valid string"),
        ("serve: {recompute_ratio: 2}", "got a recompute ratio of 2.0, expected a number from 0 to 1"),
        ("serve: {share_blends: maybe}", "got 'maybe', expected 'no', 'as-is' or 'topped-up'"),
        ("serve: {ingest_share: 0}", "got 0, expected greater than 0"),
        ("serve: {max_json_depth: 100000}", "got 100000, expected less than or equal to 500"),
        ("serve: {max_body_bytes: 0}", "got 0, expected greater than 0"),
        ("serve: {vllm: [a]}", "expected a valid dictionary"),
        ("serve: {model: []}", "expected a valid string"),
    ],
)
def test_a_value_that_makes_no_sense_is_an_error_that_names_it(file: Path, text: str, message: str):
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load(ServeConfig)


def test_another_sections_mistakes_are_left_to_whoever_reads_it(file: Path):
    file.write_text("store: {disk_byte: 1}")
    assert load(ServeConfig).settings == ServeConfig()
    with pytest.raises(ConfigError, match="unknown setting disk_byte"):
        load(StoreConfig)


def test_a_variable_that_is_no_setting(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KVBLEND_SERVE_VLLM", "{}")
    with pytest.raises(ConfigError, match="unknown variable KVBLEND_SERVE_VLLM"):
        load(ServeConfig)


@pytest.mark.parametrize("group", GROUPS)
def test_every_setting_is_explained_and_its_default_is_valid(group: type[Group]):
    assert tuple(each.section for each in GROUPS) == SECTIONS
    defaults = group()
    assert group(**{key: getattr(defaults, key) for key in group.model_fields}) == defaults
    for one in settings_of(group).values():
        assert one.help and not one.help.endswith(".") and one.default
    parser = argparse.ArgumentParser()
    add_flags(parser, group)
    assert set(flags_given(parser.parse_args([]), group).values()) == {None}
    parser.format_help()


def test_every_variable_of_the_product_is_documented():
    root = Path(__file__).parents[3]
    packages = ("api", "blend", "precompute", "retriever")
    sources = [path.read_text() for package in packages for path in (root / package).rglob("*.py")]
    named = {name for text in sources for name in re.findall(r"KVBLEND_[A-Z_]*[A-Z]", text)}
    page = (root / "docs" / "settings.md").read_text()
    assert not {name for name in named if f"`{name}`" not in page}


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
    assert (
        main(["config", "--config", str(named), "--log-format", "json", "--memory-bytes", "1MB", "--json"])
        == 0
    )
    said = capsys.readouterr().out
    assert "s3cret" not in said and "swordfish" not in said
    found = json.loads(said)
    assert found["serve"]["log_format"] == {"value": "json", "source": "--log-format"}
    assert found["store"]["path"] == {"value": str(tmp_path / "chunks"), "source": f"{named}:2"}
    assert found["store"]["remote"]["value"] == "redis://***@host:1/0"
    assert found["store"]["memory_bytes"] == {"value": 10**6, "source": "--memory-bytes"}
    assert found["serve"]["drain_s"] == {"value": 30.0, "source": "default"}
    assert main(["config", "--config", str(named)]) == 0
    table = capsys.readouterr().out
    assert "serve.log_format  " in table and "swordfish" not in table and "s3cret" not in table
    assert main(["config", "--config", str(tmp_path / "missing.yaml")]) == 1
