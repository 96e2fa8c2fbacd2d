"""A process that runs the model is started with its threads, and this process keeps its own environment."""

import os
from pathlib import Path
from unittest.mock import patch

import pytest
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.v1.engine.async_llm import AsyncLLM

from blend.vllm.engine.setup import prepare_engine
from blend.vllm.engine.start import start_engine
from tests.blend.vllm.engine.test_families import HEAD_SIZE, save
from tests.reference.tiny_models import tiny_model


@pytest.mark.parametrize(("cores", "num_ranks", "threads"), [("0", 1, "1"), ("0|0", 2, None)])
def test_the_engines_process_has_the_threads_of_the_rank_that_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: str, num_ranks: int, threads: str | None
) -> None:
    save(tiny_model("llama", head_size=HEAD_SIZE), tmp_path / "model")
    given: dict[str, str] = {}
    monkeypatch.setattr(AsyncLLM, "from_vllm_config", lambda **_: given.update(os.environ))
    with patch.dict(os.environ, VLLM_CPU_OMP_THREADS_BIND=cores, VLLM_CPU_KVCACHE_SPACE="1"):
        os.environ.pop("OMP_NUM_THREADS", None)
        setup = prepare_engine(str(tmp_path / "model"), tmp_path, tensor_parallel_size=num_ranks)
        start_engine(AsyncEngineArgs(**setup.arguments))
        assert given.get("OMP_NUM_THREADS") == threads
        assert "OMP_NUM_THREADS" not in os.environ
