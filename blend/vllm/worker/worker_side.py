"""The workers' half of the connector: runs blends in slices between engine steps, and reports their outcomes.

The main path of one blend: `step` begins it and advances it, `finished` tells vLLM that its rows are written,
`pop_report` sends its outcome to the scheduler.
"""

import logging
import time
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import torch
from vllm.config import VllmConfig

from blend.errors import NotBlendable, StoreError
from blend.report.metrics import Meter
from blend.store.tiers.device import place_on
from blend.vllm.job.context import KeptRows
from blend.vllm.job.job import blend
from blend.vllm.layers.layers import LayerRunner
from blend.vllm.layers.ranks import Ranks
from blend.vllm.layers.rows import Page
from blend.vllm.messages import (
    BlendOutcome,
    BlendTask,
    PrefillReason,
    Rates,
    Reason,
    StepOrders,
    StepReport,
    TailTask,
)
from blend.vllm.settings import Settings
from blend.vllm.worker.chunk_calls import Behind
from blend.vllm.worker.computing import Computing, Stored
from blend.vllm.worker.pace import BACKGROUND, Pace
from blend.vllm.worker.stores import Stores
from blend.vllm.worker.trial import check_layers, dense_is_faster, measure_rates

logger = logging.getLogger(__name__)

Steps = Generator[None, None, BlendOutcome]


class WorkerSide:
    """One per worker process; its methods are called between or inside engine steps, never concurrently.

    Args:
        settings: of the connector.
        runner: vLLM's model runner, with its KV cache initialised.

    Attributes:
        meter: counts what this process does.
    """

    def __init__(self, settings: Settings, runner: Any, vllm_config: VllmConfig) -> None:
        self._reads_in_background = settings.store.remote is not None
        self._block_size = vllm_config.cache_config.block_size
        self._vocab_size = vllm_config.model_config.get_vocab_size()
        heads = vllm_config.model_config.get_total_num_kv_heads()
        self._ranks = Ranks(heads, torch.device(runner.device))
        self.meter = Meter(process=f"rank {self._ranks.rank}")
        place = place_on(torch.device(runner.device), self._ranks.own_of_all)
        self._stores = Stores(settings, self.meter, place)
        self._layers: LayerRunner | None = None
        self._computing: Computing | None = None
        self._not_blendable: str | None = None
        self._rates: Rates | None = None
        try:
            self._layers = LayerRunner(runner, vllm_config)
            self._layers.attends_densely = self._attends_densely(settings.attention, self._layers)
            self._rates = measure_rates(self._layers, vllm_config.scheduler_config.max_num_batched_tokens)
            self._computing = Computing(self._stores, self._layers, self._ranks)
        except NotBlendable as error:
            self._not_blendable = str(error)
            logger.warning("kvblend serves without blending: %s", error)
        except Exception as error:  # an unknown kind of model is still served
            self._not_blendable = f"its layers cannot be called on chosen tokens ({_text(error)})"
            logger.exception("kvblend serves without blending")
        self._pace = Pace()
        self._tasks: dict[str, BlendTask] = {}
        self._active: dict[str, Steps] = {}
        self._outcomes: dict[str, BlendOutcome] = {}
        self._failed_blocks: set[int] = set()
        self._kept: dict[str, KeptRows] = {}
        self._tails: dict[str, Page] = {}
        self._restored: set[str] = set()

    def _attends_densely(self, attention: str, layers: LayerRunner) -> bool:
        if attention != "auto":
            return attention == "dense"
        # The same form on all ranks: they must cut a blend into the same slices.
        return self._ranks.all_true([dense_is_faster(layers)])[0]

    @property
    def in_flight(self) -> int:
        """Number of blends that have begun and not finished."""
        return len(self._active)

    def step(self, orders: StepOrders) -> None:
        """Begin new blends and compute some slices of the oldest one; see `Pace`."""
        for name in orders.dropped:
            self._kept.pop(name, None)
            self._tails.pop(name, None)
        for tail in orders.tails:
            self._restore(tail)
        for task in orders.tasks:
            self._begin(task)
        if self._active:
            # One blend at a time: the oldest request starts to decode while the next one is blended.
            request_id, steps = next(iter(self._active.items()))
            if orders.decoding:
                self._advance_paced(request_id, steps)
            else:
                self._advance_idle(request_id, steps)
        if orders.decoding:
            self._pace.end()

    def _advance_paced(self, request_id: str, steps: Steps) -> None:
        self._pace.begin(len(self._active))
        self._advance(request_id, steps)
        # All ranks go on or none: the layers' sums are collective.
        while request_id in self._active and self._ranks.all_true([self._pace.may_go_on()])[0]:
            self._advance(request_id, steps)

    def _advance_idle(self, request_id: str, steps: Steps) -> None:
        assert self._layers is not None, "without layers no blend is begun"
        # An idle engine also returns now and then: a request may have come, or this one been aborted.
        for _ in range(2 * self._layers.num_layers):
            if request_id in self._active:
                self._advance(request_id, steps)

    def _begin(self, task: BlendTask) -> None:
        if self._layers is None:
            self._fail(task, Reason.MODEL, self._not_blendable or "the model's layers are not loaded")
            return
        self._tasks[task.request_id] = task
        self._active[task.request_id] = blend(
            task,
            self._stores.read_by(task.namespace),
            self._layers,
            self._ranks,
            self._kept,
            reads_in_background=self._reads_in_background,
        )

    def _restore(self, task: TailTask) -> None:
        assert self._layers is not None, "without layers no tail is kept"
        self._layers.put_page(task.block_id, self._tails[task.name])
        self._restored.add(task.request_id)

    def _fail(self, task: BlendTask, reason: Reason, text: str) -> None:
        self._give_up(task, BlendOutcome(task.request_id, failure=PrefillReason(reason, text)))

    def _give_up(self, task: BlendTask, outcome: BlendOutcome) -> None:
        self._outcomes[task.request_id] = outcome
        # Blocks before `start` came from the engine's cache and are complete.
        self._failed_blocks.update(task.block_ids[task.start // self._block_size :])

    def _advance(self, request_id: str, steps: Steps) -> None:
        try:
            next(steps)
            return
        except StopIteration as done:
            outcome: BlendOutcome = done.value
            if outcome.failure is None:
                self._outcomes[request_id] = self._with_tail(self._tasks[request_id], outcome)
            else:
                self._give_up(self._tasks[request_id], outcome)
        except Exception as error:  # the engine can still prefill the request, whatever went wrong
            logger.exception("blending %s failed: it is prefilled instead", request_id)
            self._fail(self._tasks[request_id], Reason.ERROR, _text(error))
        self._forget(request_id)

    def _with_tail(self, task: BlendTask, outcome: BlendOutcome) -> BlendOutcome:
        """Keep the page that holds the end of a blended context, if the task asks for it."""
        if task.tail_as is None or self._layers is None:
            return outcome
        page = self._layers.page(task.block_ids[task.plan.num_tokens // self._block_size])
        self._tails[task.tail_as] = page
        return replace(outcome, tail=task.tail_as, tail_bytes=sum(layer.nbytes for layer in page))

    def _forget(self, request_id: str) -> None:
        del self._tasks[request_id], self._active[request_id]

    def finished(self, finished_ids: set[str]) -> set[str]:
        """Requests whose rows are no longer written: filled, failed, or aborted before their blend was done.

        Called when the step's own forward is done.

        Args:
            finished_ids: requests that vLLM has finished, for instance because the client aborted them.
        """
        self._pace.stepped()
        aborted = finished_ids & self._active.keys()
        for request_id in aborted:
            self._active[request_id].close()
            self._forget(request_id)
        restored, self._restored = self._restored, set()
        return aborted | restored | self._outcomes.keys()

    def pop_failed_blocks(self) -> set[int]:
        """Blocks of failed blends, whose rows are not all written; each is returned once."""
        blocks, self._failed_blocks = self._failed_blocks, set()
        return blocks

    def pop_report(self) -> StepReport | None:
        """Outcomes since the last call, and in the first report the measured rates; None when there are
        none."""
        outcomes, self._outcomes = self._outcomes, {}
        rates, self._rates = self._rates, None
        return StepReport(outcomes, rates) if outcomes or rates else None

    def compute(self, behind: Behind, batch: list[list[int]], namespace: str) -> Stored:
        """Compute and store chunks of a namespace, and their prefix if it is not stored; see `Computing`."""
        if self._computing is None:
            return self._cannot_compute()
        return self._computing.at_once(behind, batch, namespace)

    def begin_computing(self, behind: Behind, batch: list[list[int]], namespace: str) -> None:
        """Prepare the same in slices, for `advance_computing`."""
        if self._computing is not None:
            self._computing.begin(behind, batch, namespace)

    def advance_computing(self, idle_s: float | None) -> tuple[float, Stored | None]:
        """Compute some slices of the chunks begun last; only one slice while a blend waits.

        Args:
            idle_s: time limit when the engine has nothing else to do; None: half of the time that a blend may
                delay decoding requests.

        Returns:
            Seconds that it took; and the result, None until all chunks are stored.
        """
        if self._computing is None:
            return 0.0, self._cannot_compute()
        begin_s = time.perf_counter()
        self._pace.begin(BACKGROUND)

        def may_go_on() -> bool:
            if self._active:
                return False
            here = self._pace.may_go_on() if idle_s is None else time.perf_counter() - begin_s < idle_s
            return self._ranks.all_true([here])[0]  # all ranks or none: the layers' sums are collective

        stored = self._computing.advance(may_go_on)
        return time.perf_counter() - begin_s, stored

    def _cannot_compute(self) -> Stored:
        problem = f"the chunk KV of this model cannot be used: {self._not_blendable}"
        return Stored(0, StoreError.__name__, problem)

    def check(self) -> str | None:
        """Why this model cannot be blended, found in its layers, or None."""
        if self._layers is None:
            return self._not_blendable
        return check_layers(self._layers, self._ranks, self._vocab_size)


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
