"""The store's configuration: the file, then the environment, then flags; and nothing unknown."""

from pathlib import Path

import pytest

from blend.errors import ConfigError
from blend.settings.defaults import DEFAULTS
from blend.store.codecs import CODECS
from blend.store.config import KEYS, StoreConfig, load_config
from blend.store.remote.remote import RemoteStore
from blend.store.stack import open_store
from blend.store.tiers.backed import BackedStore
from blend.store.tiers.cached import CachedStore
from blend.store.tiers.device import DeviceStore
from blend.store.tiers.disk import DiskStore
from blend.store.tiers.place import MEMORY


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, in an environment that says nothing else."""
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setenv("KVBLEND_CACHE", str(cache))
    for name in ("KVBLEND_STORE", "KVBLEND_STORE_CONFIG", "KVBLEND_STORE_CODEC", "KVBLEND_STORE_REMOTE"):
        monkeypatch.delenv(name, raising=False)
    return cache


def test_nothing_said(cache: Path) -> None:
    found = load_config({})
    assert found.config == StoreConfig(cache / "store", None, DEFAULTS.memory_bytes)
    assert set(found.sources.values()) == {"default"}
    assert set(found.sources) == set(KEYS)


def test_each_source_wins_over_the_one_before(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "store.yaml").write_text("path: /a\ndisk_bytes: 1 GB\nmemory_bytes: 1000\ncodec: int8\n")
    said = load_config({})
    assert said.config == StoreConfig(Path("/a"), 10**9, 1000, codec="int8")
    told = {key for key, source in said.sources.items() if source == str(cache / "store.yaml")}
    assert told == {"path", "disk_bytes", "memory_bytes", "codec"}
    monkeypatch.setenv("KVBLEND_STORE", "/b")
    monkeypatch.setenv("KVBLEND_STORE_DISK_BYTES", "2GB")
    assert load_config({}).config == StoreConfig(Path("/b"), 2 * 10**9, 1000, codec="int8")
    said = load_config({"path": "/c", "disk_bytes": None})
    assert said.config == StoreConfig(Path("/c"), 2 * 10**9, 1000, codec="int8")
    assert said.sources["path"] == "--store"
    assert said.sources["disk_bytes"] == "$KVBLEND_STORE_DISK_BYTES"


def test_the_file_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("memory_bytes: 0\npath: beside\n")
    two.write_text("disk_bytes: null\n")
    monkeypatch.setenv("KVBLEND_STORE_CONFIG", str(one))
    assert load_config({}).config.memory_bytes == 0
    assert load_config({}).config.path == tmp_path / "beside"  # relative to the file
    assert load_config({}, two).config.memory_bytes == DEFAULTS.memory_bytes
    assert load_config({}, two).sources["disk_bytes"] == str(two)
    with pytest.raises(ConfigError, match=r"cannot read the configuration .*missing\.yaml"):
        load_config({}, tmp_path / "missing.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "disk_byte: 1\n",
            "unknown key disk_byte in .*; known keys are path, disk_bytes, memory_bytes, namespace",
        ),
        ("1: 2\n", "unknown key 1 "),
        ("- a\n", "expected keys and values"),
        ("disk_bytes: lots\n", "got 'lots', expected a number of bytes"),
        ("disk_bytes: -1\n", "got -1, expected a number of bytes"),
        ("memory_bytes: true\n", "got True, expected"),
        ("memory_bytes: null\n", "got None, expected"),
        ("path: [1]\n", "expected a folder"),
        ("codec: zip\n", "store.yaml: got codec 'zip', expected one of: raw, int8"),
        ("codec: null\n", "got codec 'None', expected one of"),
        ("a: [\n", "cannot read the configuration"),
        ("remote: http://host\n", r"got 'http://\.\.\.', expected redis://HOST:PORT/DB"),
        ("remote: swordfish\n", "got no URL, expected"),
        ("remote: 7\n", "got no URL, expected"),
        ("remote_deadline_ms: soon\n", "got 'soon', expected a number of milliseconds"),
        ("remote_deadline_ms: 0\n", "expected a number of milliseconds from 1 up"),
        ("remote_piece_bytes: 0\n", "expected a number of bytes from 1 up"),
    ],
)
def test_what_makes_no_sense_is_an_error_that_names_it(cache: Path, text: str, message: str) -> None:
    (cache / "store.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config({})


def test_an_unknown_variable_of_ours_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVBLEND_STORE_DISKBYTES", "1")
    with pytest.raises(ConfigError, match="unknown key KVBLEND_STORE_DISKBYTES in the environment"):
        load_config({})


def test_an_unknown_flag_is_an_error() -> None:
    with pytest.raises(ConfigError, match="unknown key colour in the flags"):
        load_config({"colour": "red"})


def test_the_tiers_are_those_of_the_configuration(tmp_path: Path) -> None:
    both = open_store(StoreConfig(tmp_path, 5000, 1000), tmp_path / "chunks")
    assert isinstance(both, CachedStore) and both.budget_bytes == 1000
    assert isinstance(both.inner, DiskStore) and both.inner.budget_bytes == 5000
    assert isinstance(open_store(StoreConfig(tmp_path, None, 0), tmp_path / "chunks"), DiskStore)
    assert both.inner.codec is CODECS[DEFAULTS.codec]


def test_the_device_is_the_first_tier_where_it_is_asked_for(tmp_path: Path) -> None:
    said = load_config({"path": tmp_path, "device_bytes": "1MB"}).config
    store = open_store(said, tmp_path / "chunks", place=MEMORY)
    assert isinstance(store, DeviceStore) and store.budget_bytes == 10**6
    assert isinstance(store.inner, CachedStore)
    assert not isinstance(open_store(said, tmp_path / "chunks"), DeviceStore), "it has no device"
    auto = load_config({"path": tmp_path}).config
    assert auto.device_bytes == "auto"
    assert not isinstance(open_store(auto, tmp_path / "chunks", place=MEMORY), DeviceStore), (
        "a CPU's is memory"
    )
    with pytest.raises(ConfigError, match="got 'some', expected a number of bytes"):
        load_config({"device_bytes": "some"})


def test_the_codec_is_said_like_any_other_setting(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_config({}).config.codec == DEFAULTS.codec == "uniform"
    (cache / "store.yaml").write_text("codec: int4\n")
    assert load_config({}).config.codec == "int4"
    monkeypatch.setenv("KVBLEND_STORE_CODEC", "int8")
    assert load_config({}).config.codec == "int8"
    said = load_config({"codec": "raw"})
    assert (said.config.codec, said.sources["codec"]) == ("raw", "--codec")


def test_a_remote_is_the_last_tier(tmp_path: Path) -> None:
    said = {"path": tmp_path, "remote": "redis://host:1/2", "remote_bytes": "1GB", "memory_bytes": 0}
    config = load_config(said).config
    store = open_store(config, tmp_path / "models" / "a-mark" / "chunks")
    assert isinstance(store, BackedStore) and isinstance(store.near, DiskStore)
    assert isinstance(store.far, RemoteStore) and store.far.budget_bytes == 10**9
    assert load_config({"remote": "none"}).config.remote is None


def test_a_remotes_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVBLEND_STORE_REMOTE", "rediss://me:swordfish@host:1/0")
    found = load_config({})
    assert found.config.remote == "rediss://me:swordfish@host:1/0"
    assert "swordfish" not in repr(found)
    monkeypatch.setenv("KVBLEND_STORE_REMOTE", "redis:/swordfish@host")
    with pytest.raises(ConfigError, match=r"\$KVBLEND_STORE_REMOTE: remote: got no URL") as raised:
        load_config({})
    assert "swordfish" not in str(raised.value)
