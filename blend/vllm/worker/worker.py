"""The platform's own worker, which shows its model to the connector. Named to vLLM by `worker_cls`."""

from typing import TYPE_CHECKING, Any

import torch
from vllm.distributed.kv_transfer import get_kv_transfer_group
from vllm.platforms import current_platform

from blend.vllm.connector import KVBlendConnector
from blend.vllm.worker.chunk_calls import Behind
from blend.vllm.worker.computing import Stored
from blend.vllm.worker.process import keep_to_one_core

if TYPE_CHECKING or not current_platform.is_cpu():
    from vllm.v1.worker.gpu_worker import Worker as PlatformWorker
else:
    from vllm.v1.worker.cpu_worker import CPUWorker as PlatformWorker


class BlendWorker(PlatformWorker):
    """Runs in every worker process. `collective_rpc` calls its methods between engine steps, on every
    rank."""

    def initialize_from_config(self, kv_cache_config: Any) -> None:
        super().initialize_from_config(kv_cache_config)
        keep_to_one_core()
        _connector().attach(self.model_runner)

    def compute_chunks(self, behind: Behind, batch: list[list[int]], namespace: str) -> Stored:
        """Compute and store chunks of a namespace that stand behind one prefix; rank 0 writes."""
        with torch.inference_mode():
            return _connector().worker.compute(behind, batch, namespace)

    def begin_computing(self, behind: Behind, batch: list[list[int]], namespace: str) -> None:
        """Prepare the same in slices, for `advance_computing`."""
        with torch.inference_mode():
            _connector().worker.begin_computing(behind, batch, namespace)

    def advance_computing(self, idle_s: float | None) -> tuple[float, Stored | None]:
        """Compute some slices more; see `WorkerSide.advance_computing`."""
        with torch.inference_mode():
            return _connector().worker.advance_computing(idle_s)

    def check_model(self) -> str | None:
        """Why the model cannot be blended, found in its layers, or None."""
        with torch.inference_mode():
            return _connector().worker.check()

    def blends_in_flight(self) -> int:
        """Number of blends that have begun and not finished."""
        return _connector().worker.in_flight


def _connector() -> KVBlendConnector:
    connector = get_kv_transfer_group()
    assert isinstance(connector, KVBlendConnector), "worker_cls and kv_connector are set together"
    return connector
