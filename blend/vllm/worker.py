"""The platform's own worker, with its model shown to the connector. Named to vLLM by `worker_cls`."""

from typing import TYPE_CHECKING, Any

import torch
from vllm.distributed.kv_transfer import get_kv_transfer_group
from vllm.platforms import current_platform

from blend.vllm.connector import KVBlendConnector

if TYPE_CHECKING or not current_platform.is_cpu():
    from vllm.v1.worker.gpu_worker import Worker as PlatformWorker
else:
    from vllm.v1.worker.cpu_worker import CPUWorker as PlatformWorker


class BlendWorker(PlatformWorker):
    """Runs in every worker process."""

    def initialize_from_config(self, kv_cache_config: Any) -> None:
        super().initialize_from_config(kv_cache_config)
        connector = get_kv_transfer_group()
        assert isinstance(connector, KVBlendConnector), "worker_cls and kv_connector are set together"
        connector.attach(self.model_runner)

    def compute_chunks(
        self, prefix_ids: list[int], batch: list[list[int]], namespace: str = ""
    ) -> tuple[int, str, str]:
        """Compute and store chunks of a namespace that stand behind one prefix.

        Called by `collective_rpc`, between engine steps, on every rank; rank 0 writes.

        Returns:
            Bytes stored; and what went wrong, as the error's class and message, or twice nothing: an
            exception would not keep its type on the way to the caller.
        """
        connector = get_kv_transfer_group()
        assert isinstance(connector, KVBlendConnector)
        with torch.inference_mode():
            return connector.worker.compute(tuple(prefix_ids), batch, namespace)

    def check_model(self) -> str | None:
        """Why the model cannot be blended, found in its layers, or None; called on every rank."""
        connector = get_kv_transfer_group()
        assert isinstance(connector, KVBlendConnector)
        with torch.inference_mode():
            return connector.worker.check()

    def blends_in_flight(self) -> int:
        """Blends begun and not finished."""
        connector = get_kv_transfer_group()
        assert isinstance(connector, KVBlendConnector)
        return connector.worker.in_flight
