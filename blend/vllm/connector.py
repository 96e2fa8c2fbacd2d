"""kvblend as a KV connector of vLLM: an asynchronous load whose rows are blended.

vLLM creates one object per role; each delegates to its half. Reference for the contract:
`vllm.distributed.kv_transfer.kv_connector.v1.base`.
"""

from typing import Any

import torch
from vllm.config import VllmConfig
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorRole,
)
from vllm.distributed.kv_transfer.kv_connector.v1.metrics import KVConnectorPromMetrics, KVConnectorStats
from vllm.forward_context import ForwardContext
from vllm.v1.core.kv_cache_manager import KVCacheBlocks
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.kv_cache_interface import KVCacheConfig
from vllm.v1.outputs import KVConnectorOutput
from vllm.v1.request import Request

from blend.vllm.exposition import BlendProm, ConnectorStats
from blend.vllm.messages import StepOrders, StepReport
from blend.vllm.request_params import KEY
from blend.vllm.scheduler.scheduler_side import SchedulerSide
from blend.vllm.settings import Settings
from blend.vllm.worker.process import end_with_parent
from blend.vllm.worker.worker_side import WorkerSide


class KVBlendConnector(KVConnectorBase_V1):
    """Named to vLLM by `kv_connector` and `kv_connector_module_path`."""

    def __init__(
        self, vllm_config: VllmConfig, role: KVConnectorRole, kv_cache_config: KVCacheConfig
    ) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        self._settings = Settings.from_extra_config(self._kv_transfer_config.kv_connector_extra_config)
        self._scheduler = (
            SchedulerSide(self._settings, vllm_config.cache_config.block_size, self._found_tokens)
            if role == KVConnectorRole.SCHEDULER
            else None
        )
        self._worker: WorkerSide | None = None
        if self._scheduler is not None:
            end_with_parent()

    @property
    def requires_kv_delivery(self) -> bool:
        return False  # no other engine takes over a finished request's KV

    # Metrics

    def get_kv_connector_stats(self) -> KVConnectorStats | None:
        return ConnectorStats.of((self._scheduler or self.worker).meter)

    @classmethod
    def build_kv_connector_stats(cls, data: dict[str, Any] | None = None) -> KVConnectorStats:
        return ConnectorStats(data or {})

    @classmethod
    def build_prom_metrics(
        cls,
        vllm_config: VllmConfig,
        metric_types: dict[Any, Any],
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> KVConnectorPromMetrics:
        return BlendProm(vllm_config, metric_types, labelnames, per_engine_labelvalues)

    # Workers

    def attach(self, runner: Any) -> None:
        """Create the worker's half with its model; called when the KV cache is initialised."""
        self._worker = WorkerSide(self._settings, runner, self._vllm_config)

    @property
    def worker(self) -> WorkerSide:
        """The worker's half; only in worker processes."""
        assert self._worker is not None, "the connector was not attached to a model runner"
        return self._worker

    def start_load_kv(self, forward_context: ForwardContext, **kwargs: Any) -> None:
        orders = self._get_connector_metadata()
        assert isinstance(orders, StepOrders)
        self.worker.step(orders)

    def wait_for_layer_load(self, layer_name: str) -> None:
        return

    def save_kv_layer(
        self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: Any, **kwargs: Any
    ) -> None:
        return

    def wait_for_save(self) -> None:
        return

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        return None, self.worker.finished(finished_req_ids) or None

    def get_block_ids_with_load_errors(self) -> set[int]:
        return self.worker.pop_failed_blocks()

    def build_connector_worker_meta(self) -> StepReport | None:
        return self.worker.pop_report()

    # Scheduler

    @property
    def scheduler(self) -> SchedulerSide:
        """The scheduler's half; only in the scheduler's process."""
        assert self._scheduler is not None, "this connector was made for a worker"
        return self._scheduler

    def _found_tokens(self, request: Request) -> int:
        """How many leading tokens of a request the engine's cache holds under its current salt."""
        assert self._kv_cache_manager is not None, "vLLM sets it before the first request"
        _, num_tokens, _ = self._kv_cache_manager.get_computed_blocks(request)
        return num_tokens

    def on_new_request(self, request: Request) -> None:
        self.scheduler.add(request)

    def get_num_new_matched_tokens(
        self, request: Request, num_computed_tokens: int
    ) -> tuple[int | None, bool]:
        return self.scheduler.matched(request, num_computed_tokens)

    def update_state_after_alloc(
        self, request: Request, blocks: KVCacheBlocks, num_external_tokens: int
    ) -> None:
        self.scheduler.allocated(request, blocks, num_external_tokens)

    def build_connector_meta(self, scheduler_output: SchedulerOutput) -> KVConnectorMetadata:
        return self.scheduler.orders(decoding=scheduler_output.total_num_scheduled_tokens > 0)

    def update_connector_output(self, connector_output: KVConnectorOutput) -> None:
        report = connector_output.kv_connector_worker_meta
        if isinstance(report, StepReport):
            self.scheduler.report(report)

    def request_finished(self, request: Request, block_ids: list[int]) -> tuple[bool, dict[str, Any] | None]:
        stats = self.scheduler.remove(request.request_id)
        return False, {KEY: stats.to_json()} if stats else None
