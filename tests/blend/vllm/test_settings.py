"""The store's settings on their way to the engine: whole, and without secrets in what vLLM logs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from blend.store.config import StoreConfig
from blend.vllm.engine.setup import prepare_engine
from blend.vllm.settings import Settings
from tests.blend.vllm.engine.test_families import save
from tests.reference.tiny_models import tiny_model

URL = "redis://me:swordfish@host:1/0"


@pytest.fixture(autouse=True)
def environment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an engine sets for its process ends with the test."""
    for name in ("VLLM_CPU_OMP_THREADS_BIND", "KVBLEND_STORE_REMOTE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_the_engine_is_told_the_settings_of_the_store_without_secrets(tmp_path: Path) -> None:
    save(tiny_model("llama"), tmp_path / "model")
    store = StoreConfig(path=tmp_path / "store", disk_bytes=None, memory_bytes=7, remote=URL)
    setup = prepare_engine(str(tmp_path / "model"), store, codec="raw")
    told = json.dumps(setup.arguments["kv_transfer_config"]["kv_connector_extra_config"])
    assert "swordfish" not in told
    settings = Settings.from_extra_config(json.loads(told))
    assert settings == setup.settings
    assert settings.tiers == store.model_copy(update={"codec": "raw"}) and settings.tiers.remote == URL


def test_a_namespace_has_a_memory_budget_of_its_own_and_no_device() -> None:
    store = StoreConfig(path=Path("a"), memory_bytes=100, namespace_memory_bytes=10)
    settings = Settings(store, "f" * 64, engine="cpu", gate_key="its own")
    own = settings.within("acme")
    assert (own.store.memory_bytes, own.store.device_bytes) == (10, 0)
    assert own.store.path == store.path and own.fingerprint != settings.fingerprint
    assert settings.within("") == settings


@pytest.mark.parametrize("section", ["settings", "store"])
def test_an_unknown_key_is_an_error(section: str) -> None:
    settings = Settings(StoreConfig(path=Path("a")), "f" * 64, engine="cpu", gate_key="its own")
    extra = settings.to_extra_config()
    (extra if section == "settings" else extra["store"])["colour"] = "red"
    with pytest.raises(ValueError, match="colour"):
        Settings.from_extra_config(extra)
    assert Settings.from_extra_config(settings.to_extra_config()) == replace(settings)
