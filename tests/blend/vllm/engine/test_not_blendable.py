"""A model whose KV cannot be blended is refused for blending by name and reason, and still served."""

from pathlib import Path

import pytest
from transformers import LlamaConfig

from blend import Engine
from blend.chunks.chunk import make_record
from blend.errors import StoreError
from blend.vllm.engine.answer import Ask
from blend.vllm.engine.setup import prepare_engine
from blend.vllm.request_params import BlendParams
from tests.blend.vllm.engine.test_families import HEAD_SIZE, ids, save
from tests.reference.tiny_models import tiny_model


@pytest.fixture(autouse=True)
def binding_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an engine sets for its process ends with the test."""
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "")
    monkeypatch.delenv("VLLM_CPU_OMP_THREADS_BIND")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama whose rotary scaling depends on the prompt's length."""
    folder = tmp_path_factory.mktemp("dynamic")
    model = tiny_model("llama", head_size=HEAD_SIZE)
    save(model, folder)
    assert isinstance(model.config, LlamaConfig)
    parameters = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    LlamaConfig(**model.config.to_dict() | {"rope_parameters": parameters}).save_pretrained(folder)
    return folder


def test_the_refusal_names_the_reason_and_sets_no_connector(folder: Path, tmp_path: Path) -> None:
    setup = prepare_engine(str(folder), tmp_path)
    assert setup.not_blendable is not None and "dynamic" in setup.not_blendable
    assert "kv_transfer_config" not in setup.arguments and "worker_cls" not in setup.arguments


@pytest.mark.parametrize(
    ("argument", "value"),
    [("enable_lora", True), ("pipeline_parallel_size", 2), ("hf_overrides", {"rope_theta": 5.0})],
)
def test_what_does_not_go_with_blending_is_named(argument: str, value: object, tmp_path: Path) -> None:
    model = tmp_path / "model"
    save(tiny_model("llama"), model)
    assert prepare_engine(str(model), tmp_path).not_blendable is None
    refused = prepare_engine(str(model), tmp_path, **{argument: value}).not_blendable
    assert refused is not None and argument in refused


def test_other_numbers_have_another_fingerprint_or_another_verdict(tmp_path: Path) -> None:
    model = tmp_path / "model"
    save(tiny_model("llama"), model)
    plain = prepare_engine(str(model), tmp_path).settings
    assert prepare_engine(str(model), tmp_path, quantization="fp8").settings.fingerprint != plain.fingerprint
    two = prepare_engine(str(model), tmp_path, tensor_parallel_size=2).settings
    assert two.fingerprint == plain.fingerprint and two.verdict_file != plain.verdict_file


@pytest.mark.engine
def test_it_answers_without_blending_and_stores_nothing(folder: Path, tmp_path: Path) -> None:
    with Engine(str(folder), tmp_path, max_model_len=256) as engine:
        ask = Ask(ids(40, seed=1), BlendParams(), 4, 0.0, None)
        answer = engine.submit(ask)
        assert len(answer.token_ids) == 4 and answer.stats.fallback is not None
        with pytest.raises(StoreError, match="dynamic"):
            engine.compute([make_record(engine.fingerprint, (), ids(20, seed=2))])
        assert list(engine.store.ids()) == []
