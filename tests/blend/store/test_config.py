"""The store's settings: the file, then the environment, then flags; and nothing unknown."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from blend.errors import ConfigError
from blend.settings.load import load
from blend.store.codecs import codec
from blend.store.config import StoreConfig, store_path
from blend.store.remote.remote import RemoteStore
from blend.store.stack import open_store
from blend.store.tiers.backed import BackedStore
from blend.store.tiers.cached import CachedStore
from blend.store.tiers.device import DeviceStore
from blend.store.tiers.disk import DiskStore
from blend.store.tiers.place import MEMORY

Write = Callable[[str], None]
DEFAULTS = StoreConfig(path=Path("a"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, in an environment that sets nothing else."""
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setenv("KVBLEND_CACHE", str(cache))
    for name in ("KVBLEND_CONFIG", "KVBLEND_STORE", "KVBLEND_STORE_CODEC", "KVBLEND_STORE_REMOTE"):
        monkeypatch.delenv(name, raising=False)
    return cache


@pytest.fixture
def write(cache: Path) -> Write:
    """Write the section `store` of `kvblend.yaml`, a setting a line from line 2 on."""
    return lambda text: (
        (cache / "kvblend.yaml").write_text("store:\n  " + text.replace("\n", "\n  ")) and None
    )


def test_without_sources_each_setting_has_its_default(cache: Path) -> None:
    found = load(StoreConfig)
    assert found.settings == StoreConfig(path=cache / "store")
    assert found.settings.memory_bytes == 2 << 30
    assert set(found.origins.values()) == {"default"}
    assert set(found.origins) == set(StoreConfig.model_fields)


def test_each_source_wins_over_the_one_before(
    cache: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("path: /a\ndisk_bytes: 1 GB\nmemory_bytes: 1000\ncodec: cachegen")
    found, file = load(StoreConfig), cache / "kvblend.yaml"
    assert found.settings == StoreConfig(
        path=Path("/a"), disk_bytes=10**9, memory_bytes=1000, codec="cachegen"
    )
    named = {key: origin for key, origin in found.origins.items() if origin != "default"}
    keys = ("path", "disk_bytes", "memory_bytes", "codec")
    assert named == {key: f"{file}:{line}" for line, key in enumerate(keys, start=2)}
    monkeypatch.setenv("KVBLEND_STORE", "/b")
    monkeypatch.setenv("KVBLEND_STORE_DISK_BYTES", "2GB")
    monkeypatch.setenv("KVBLEND_STORE_MEMORY_BYTES", "")
    expected = StoreConfig(path=Path("/b"), disk_bytes=2 * 10**9, memory_bytes=1000, codec="cachegen")
    assert load(StoreConfig).settings == expected
    found = load(StoreConfig, {"path": "/c", "disk_bytes": None})
    assert found.settings == expected.model_copy(update={"path": Path("/c")})
    assert found.origins["path"] == "--store"
    assert found.origins["disk_bytes"] == "$KVBLEND_STORE_DISK_BYTES"


def test_constructing_settings_reads_no_source(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("disk_bytes: 1")
    monkeypatch.setenv("KVBLEND_STORE_MEMORY_BYTES", "1")
    assert StoreConfig(path=Path("a")) == DEFAULTS
    with pytest.raises(ValidationError, match="frozen"):
        DEFAULTS.disk_bytes = 1


def test_a_path_in_a_file_starts_at_the_files_folder(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = tmp_path / "one.yaml"
    one.write_text("store: {memory_bytes: 0, path: beside}\n")
    monkeypatch.setenv("KVBLEND_CONFIG", str(one))
    assert load(StoreConfig).settings.memory_bytes == 0
    assert store_path() == tmp_path / "beside"
    assert store_path("there") == Path("there")
    monkeypatch.setenv("KVBLEND_STORE", "~/chunks")
    assert store_path() == Path.home() / "chunks"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "disk_byte: 1",
            r"kvblend.yaml:2: unknown setting disk_byte in section store, did you mean disk_bytes\? correct "
            "or remove it; known are path, disk_bytes, device_bytes, memory_bytes, namespace",
        ),
        ("1: 2", "kvblend.yaml:2: unknown setting 1 "),
        ("- a", "kvblend.yaml:1: section store: got one list, expected keys and values"),
        (
            "codec: raw\ndisk_bytes: lots",
            "kvblend.yaml:3: disk_bytes: got 'lots', expected a number of bytes",
        ),
        ("disk_bytes: -1", "got '-1', expected a number of bytes"),
        ("memory_bytes: true", "got 'True', expected"),
        ("memory_bytes: null", "got 'None', expected"),
        ("path: [1]", "expected the path of a file or folder"),
        ("path: ''", "expected the path of a file or folder"),
        ("codec: zip", "kvblend.yaml:2: codec: got codec 'zip', expected one of: raw, uniform"),
        ("codec: null", "got None, expected a valid string"),
        ("? [a]\n: 1", "cannot read the settings file .*kvblend.yaml"),
        ("codec: [", "cannot read the settings file .*kvblend.yaml"),
        (
            "remote: http://host",
            r"kvblend.yaml:2: remote: got 'http://\.\.\.', expected redis://HOST:PORT/DB",
        ),
        ("remote: swordfish", "got no URL, expected"),
        ("remote: 7", "got no URL, expected"),
        (
            "remote_deadline_ms: soon",
            "got 'soon', expected a valid integer.*; remote_deadline_ms is: how long",
        ),
        ("remote_deadline_ms: true", "got True, expected a number"),
        ("remote_deadline_ms: 0", "got 0, expected greater than 0"),
    ],
)
def test_a_value_that_makes_no_sense_is_an_error_that_names_it(write: Write, text: str, message: str) -> None:
    write(text)
    with pytest.raises(ConfigError, match=message) as raised:
        load(StoreConfig)
    assert "swordfish" not in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["DISKBYTES", "PATH"])
def test_an_unknown_variable_is_an_error(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"KVBLEND_STORE_{name}", "1")
    with pytest.raises(ConfigError, match=f"unknown variable KVBLEND_STORE_{name}, did you mean"):
        load(StoreConfig)


def test_an_unknown_flag_is_an_error() -> None:
    with pytest.raises(ConfigError, match="unknown setting colour"):
        load(StoreConfig, {"colour": "red"})


def test_the_tiers_are_those_of_the_configuration(tmp_path: Path) -> None:
    both = open_store(StoreConfig(path=tmp_path, disk_bytes=5000, memory_bytes=1000), tmp_path / "chunks")
    assert isinstance(both, CachedStore) and both.budget_bytes == 1000
    assert isinstance(both.inner, DiskStore) and both.inner.budget_bytes == 5000
    assert isinstance(open_store(StoreConfig(path=tmp_path, memory_bytes=0), tmp_path / "chunks"), DiskStore)
    assert both.inner.codec is codec(DEFAULTS.codec)


def test_the_device_is_the_first_tier_where_it_is_asked_for(tmp_path: Path) -> None:
    said = load(StoreConfig, {"path": tmp_path, "device_bytes": "1MB"}).settings
    store = open_store(said, tmp_path / "chunks", place=MEMORY)
    assert isinstance(store, DeviceStore) and store.budget_bytes == 10**6
    assert isinstance(store.inner, CachedStore)
    assert not isinstance(open_store(said, tmp_path / "chunks"), DeviceStore), "it has no device"
    auto = load(StoreConfig, {"path": tmp_path}).settings
    assert auto.device_bytes == "auto"
    assert not isinstance(open_store(auto, tmp_path / "chunks", place=MEMORY), DeviceStore), (
        "a CPU's is memory"
    )
    with pytest.raises(ConfigError, match="got 'some', expected a number of bytes"):
        load(StoreConfig, {"device_bytes": "some"})


def test_the_codec_is_set_like_any_other_setting(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(StoreConfig).settings.codec == DEFAULTS.codec == "uniform"
    write("codec: raw")
    assert load(StoreConfig).settings.codec == "raw"
    monkeypatch.setenv("KVBLEND_STORE_CODEC", "cachegen")
    assert load(StoreConfig).settings.codec == "cachegen"
    found = load(StoreConfig, {"codec": "raw"})
    assert (found.settings.codec, found.origins["codec"]) == ("raw", "--codec")


def test_a_remote_is_the_last_tier(tmp_path: Path) -> None:
    said = {"path": tmp_path, "remote": "redis://host:1/2", "remote_bytes": "1GB", "memory_bytes": 0}
    config = load(StoreConfig, said).settings
    store = open_store(config, tmp_path / "models" / "a-mark" / "chunks")
    assert isinstance(store, BackedStore) and isinstance(store.near, DiskStore)
    assert isinstance(store.far, RemoteStore) and store.far.budget_bytes == 10**9
    assert load(StoreConfig, {"remote": "none"}).settings.remote is None


def test_a_remotes_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVBLEND_STORE_REMOTE", "rediss://me:swordfish@host:1/0")
    found = load(StoreConfig)
    assert found.settings.remote == "rediss://me:swordfish@host:1/0"
    assert "swordfish" not in repr(found) + found.settings.model_dump_json()
    monkeypatch.setenv("KVBLEND_STORE_REMOTE", "redis:/swordfish@host")
    with pytest.raises(ConfigError, match=r"\$KVBLEND_STORE_REMOTE: remote: got no URL") as raised:
        load(StoreConfig)
    assert "swordfish" not in str(raised.value)
