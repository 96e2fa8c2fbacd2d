"""The workers' half of the connector: blends in slices, and reports."""

import logging
from collections.abc import Generator
from typing import Any

import torch
from vllm.config import VllmConfig

from blend.chunk import ChunkKV, ChunkRecord, make_record
from blend.controller import Rates
from blend.errors import CorruptChunk, NotBlendable, StoreError
from blend.metrics import Meter
from blend.store.base import ChunkStore
from blend.store.shared_reads import ChunkSource, SharedReads
from blend.vllm.checks import check_layers
from blend.vllm.compute import compute_chunks
from blend.vllm.job import blend
from blend.vllm.kept import KeptRows
from blend.vllm.layers import LayerRunner
from blend.vllm.messages import BlendOutcome, BlendTask, StepOrders, StepReport
from blend.vllm.pace import Pace
from blend.vllm.ranks import Ranks
from blend.vllm.refusal import Reason
from blend.vllm.settings import Settings
from blend.vllm.trial import dense_is_faster, measure_rates

logger = logging.getLogger(__name__)

Steps = Generator[None, None, BlendOutcome]


class WorkerSide:
    """One per worker process; every method is called between or inside engine steps, never at once.

    Args:
        settings: of the connector.
        runner: vLLM's model runner, with its KV cache initialised.

    Attributes:
        meter: counts what this process does.
    """

    def __init__(self, settings: Settings, runner: Any, vllm_config: VllmConfig) -> None:
        self._reads_beside = settings.remote is not None
        self._block_size = vllm_config.cache_config.block_size
        self._settings = settings
        self._vocab_size = vllm_config.model_config.get_vocab_size()
        heads = vllm_config.model_config.get_total_num_kv_heads()
        self._ranks = Ranks(heads, torch.device(runner.device))
        self.meter = Meter(process=f"rank {self._ranks.rank}")
        self._stores = {"": settings.open_store(self.meter)}
        self._layers: LayerRunner | None = None
        self._refused: str | None = None
        self._rates: Rates | None = None
        try:
            self._layers = LayerRunner(runner, vllm_config)
            self._layers.attends_densely = self._attends_densely(settings.attention, self._layers)
            self._rates = measure_rates(self._layers, vllm_config.scheduler_config.max_num_batched_tokens)
        except NotBlendable as error:
            self._refused = str(error)
            logger.warning("kvblend serves without blending: %s", error)
        except Exception as error:  # a model of another make is still served
            self._refused = f"its layers cannot be run apart ({type(error).__name__}: {error})"
            logger.exception("kvblend serves without blending")
        self._pace = Pace()
        self._tasks: dict[str, BlendTask] = {}
        self._active: dict[str, Steps] = {}
        self._outcomes: dict[str, BlendOutcome] = {}
        self._failed_blocks: set[int] = set()
        self._kept: dict[str, KeptRows] = {}

    def _attends_densely(self, attention: str, layers: LayerRunner) -> bool:
        if attention != "auto":
            return attention == "dense"
        # One form on all ranks: they must cut a blend into the same slices.
        return self._ranks.all_true([dense_is_faster(layers)])[0]

    @property
    def in_flight(self) -> int:
        """Blends begun and not finished."""
        return len(self._active)

    def step(self, orders: StepOrders) -> None:
        """Begin new blends, and compute some slices of the oldest one; see `Pace`."""
        for name in orders.dropped:
            self._kept.pop(name, None)
        for task in orders.tasks:
            self._begin(task)
        if self._active:
            # One blend at a time: the first to come starts to decode while the next is blended.
            request_id, steps = next(iter(self._active.items()))
            if orders.others_run:
                self._advance_in_step(request_id, steps)
            else:
                self._advance_idle(request_id, steps)
        if orders.others_run:
            self._pace.end()

    def _advance_in_step(self, request_id: str, steps: Steps) -> None:
        self._pace.begin(len(self._active))
        self._advance(request_id, steps)
        # All ranks go on or none: the layers' sums are collective.
        while request_id in self._active and self._ranks.all_true([self._pace.may_go_on()])[0]:
            self._advance(request_id, steps)

    def _advance_idle(self, request_id: str, steps: Steps) -> None:
        assert self._layers is not None, "without layers no blend is begun"
        # Even an idle engine looks up now and then: a request may have come, or this one been aborted.
        for _ in range(2 * self._layers.num_layers):
            if request_id in self._active:
                self._advance(request_id, steps)

    def _begin(self, task: BlendTask) -> None:
        if self._layers is None:
            self._fail(task, self._refused or "the model's layers are not at hand", Reason.MODEL)
            return
        self._tasks[task.request_id] = task
        self._active[task.request_id] = blend(
            task,
            self._chunks_of(task.namespace),
            self._layers,
            self._ranks,
            self._kept,
            reads_beside=self._reads_beside,
        )

    def _fail(self, task: BlendTask, why: str, reason: Reason) -> None:
        self._give_up(task, BlendOutcome(task.request_id, failed=why, reason=reason))

    def _give_up(self, task: BlendTask, outcome: BlendOutcome) -> None:
        self._outcomes[task.request_id] = outcome
        # Blocks before `start` were found in the engine's cache and are good.
        self._failed_blocks.update(task.block_ids[task.start // self._block_size :])

    def _advance(self, request_id: str, steps: Steps) -> None:
        try:
            next(steps)
            return
        except StopIteration as done:
            outcome: BlendOutcome = done.value
            if outcome.failed is None:
                self._outcomes[request_id] = outcome
            else:
                self._give_up(self._tasks[request_id], outcome)
        except Exception as error:  # whatever went wrong, the engine can still prefill the request
            logger.exception("blending %s failed; it is prefilled instead", request_id)
            self._fail(self._tasks[request_id], f"{type(error).__name__}: {error}", Reason.ERROR)
        self._forget(request_id)

    def _forget(self, request_id: str) -> None:
        del self._tasks[request_id], self._active[request_id]

    def finished(self, gone: set[str]) -> set[str]:
        """Requests whose rows are no longer written to: blended, failed, or aborted (`gone`) meanwhile.

        Called when the step's own forward is done.
        """
        self._pace.stepped()
        aborted = gone & self._active.keys()
        for request_id in aborted:
            self._active[request_id].close()
            self._forget(request_id)
        return aborted | self._outcomes.keys()

    def take_failed_blocks(self) -> set[int]:
        """Blocks whose rows were not (all) written, of failed blends; forgotten once taken."""
        blocks, self._failed_blocks = self._failed_blocks, set()
        return blocks

    def take_report(self) -> StepReport | None:
        """What was finished since it was last asked, and at first what was measured; or None."""
        outcomes, self._outcomes = self._outcomes, {}
        rates, self._rates = self._rates, None
        return StepReport(outcomes, rates) if outcomes or rates else None

    def compute(
        self, prefix_ids: tuple[int, ...], batch: list[list[int]], namespace: str = ""
    ) -> tuple[int, str, str]:
        """Compute and store chunks of a namespace, and their prefix if it is not stored there.

        Returns:
            Bytes stored; and what went wrong, as the error's class and message, or twice nothing.
        """
        if self._layers is None:
            return 0, "StoreError", f"chunk KV of this model is of no use: {self._refused}"
        scope, store = self._settings.within(namespace).fingerprint, self._store_of(namespace)
        records = [make_record(scope, prefix_ids, ids) for ids in batch]
        behind = make_record(scope, (), prefix_ids)
        prefix, is_new = self._prefix(store, behind) if prefix_ids else (None, False)
        chunks = compute_chunks(records, prefix, self._layers, self._ranks)
        # Only now that no rank waits for another: what is written may fail on the one that writes.
        stored = 0
        try:
            if prefix is not None and is_new:
                self._put(store, prefix)
            for chunk in chunks:
                stored += self._put(store, chunk)
        except StoreError as error:
            return stored, type(error).__name__, str(error)
        return stored, "", ""

    def check(self) -> str | None:
        """Why this model cannot be blended, found in its layers, or None."""
        if self._layers is None:
            return self._refused
        return check_layers(self._layers, self._ranks, self._vocab_size)

    def _store_of(self, namespace: str) -> ChunkStore:
        if namespace not in self._stores:
            self._stores[namespace] = self._settings.within(namespace).open_store(self.meter)
        return self._stores[namespace]

    def _chunks_of(self, namespace: str) -> ChunkSource:
        """What the requests of a namespace may be blended from."""
        if not namespace:
            return self._stores[""]
        scope = self._settings.within(namespace).fingerprint
        return SharedReads(self._store_of(namespace), self._stores[""], scope)

    def _prefix(self, store: ChunkStore, record: ChunkRecord) -> tuple[ChunkKV, bool]:
        """The prefix's own KV, and whether it was computed just now."""
        try:
            chunk = store.get(record)
        except CorruptChunk:
            chunk = None
        # All ranks compute it or none: the layers' sums are collective.
        if self._ranks.all_true([chunk is not None])[0]:
            assert chunk is not None
            return chunk, False
        assert self._layers is not None
        (computed,) = compute_chunks([record], None, self._layers, self._ranks)
        return computed, True

    def _put(self, store: ChunkStore, chunk: ChunkKV) -> int:
        if self._ranks.rank == 0:
            store.put(chunk)
        return chunk.num_bytes
