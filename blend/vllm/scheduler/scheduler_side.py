"""The scheduler's half of the connector: decides which requests are blended and how, and reports the result.

The main path of one request: `add` finds known chunks and sets the cache salt, `matched` promises tokens to
vLLM, `allocated` queues the blend, `orders` sends it to the workers, `report` receives its outcome, `remove`
returns the statistics.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import replace

from vllm.v1.core.kv_cache_manager import KVCacheBlocks
from vllm.v1.request import Request

from blend.plan.plan import make_plan
from blend.plan.sharing import Sharing
from blend.report.metrics import Meter
from blend.report.stats import BlendStats, StageTimes
from blend.select import selector
from blend.vllm.gate.verdict_file import GateFile
from blend.vllm.messages import (
    BlendOutcome,
    BlendTask,
    PrefillReason,
    Reason,
    StepOrders,
    StepReport,
    TailTask,
)
from blend.vllm.request_params import BlendParams
from blend.vllm.scheduler.blend_metrics import count_blend, count_found, count_match, count_refused
from blend.vllm.scheduler.controller import Controller, too_little_known
from blend.vllm.scheduler.in_flight import InFlight
from blend.vllm.scheduler.known_chunks import KnownByNamespace
from blend.vllm.scheduler.lineage import Lineage
from blend.vllm.scheduler.repeats import Repeats, show_all_blocks, show_blocks
from blend.vllm.scheduler.terms import Terms, check_request, check_terms, terms_of
from blend.vllm.settings import Settings

logger = logging.getLogger(__name__)


class SchedulerSide:
    """One per scheduler; called from its thread only.

    Args:
        settings: of the connector.
        block_size: tokens per block of the engine's cache, which holds whole blocks only.
        found: returns how many leading tokens of a request the engine's cache holds under its current salt.

    Attributes:
        meter: counts what happens to requests.
    """

    def __init__(self, settings: Settings, block_size: int, found: Callable[[Request], int]) -> None:
        self._settings = settings
        self._block_size = block_size
        self._gate = GateFile(settings.verdict_file)
        self.meter = Meter(process="scheduler")
        self._known = KnownByNamespace(lambda name: settings.within(name).open_list(self.meter))
        self._found = found
        self._lineage = Lineage(Sharing(settings.sharing), settings.kept_bytes, self._has_cached_prefix)
        self._repeats = Repeats()
        self._controller = Controller()
        self._requests: dict[str, InFlight] = {}
        self._new_tasks: list[BlendTask] = []
        self._new_tails: list[TailTask] = []

    def add(self, request: Request) -> None:
        """Find known chunks in a new request, and set the cache salt of a request that will be blended.

        Every request passes here, so no request can get blocks of a blend that it did not ask for.
        """
        begin = time.perf_counter()
        own_salt, own_hashes = request.cache_salt, list(request.block_hashes)
        try:
            state = self._examine(request)
        except Exception as error:  # nothing catches it in the scheduler's loop: the engine would die
            logger.exception("cannot decide whether to blend %s: it is prefilled", request.request_id)
            request.cache_salt, request.block_hashes[:] = own_salt, own_hashes
            terms = terms_of(BlendParams(), self._settings, None)
            reason = PrefillReason(Reason.ERROR, f"{type(error).__name__}: {error}")
            state = self._prefilled(request, terms, BlendStats(), reason)
        match_ms = (time.perf_counter() - begin) * 1e3
        if state.plan is not None:
            count_match(self.meter, match_ms)
        state.stats = replace(state.stats, times=StageTimes(match_ms=match_ms))
        self._requests[request.request_id] = state

    def _examine(self, request: Request) -> InFlight:
        params, own_salt = BlendParams.from_transfer(request.kv_transfer_params), request.cache_salt
        verdict = None if self._is_self_check(params) else self._gate.current()
        terms = terms_of(params, self._settings, verdict.calibration if verdict else None)
        # The ratio that "auto" gives is known when the blend is done.
        ratio = 0.0 if isinstance(terms.ratio, str) else terms.ratio
        stats = BlendStats(ratio=ratio, selector=terms.selector)
        reason = check_request(request) or self._check_gate(params) or check_terms(terms)
        if reason is None and not params.enabled:
            reason = PrefillReason(Reason.SWITCHED_OFF, "blending was switched off for this request")
        if reason is not None:
            return self._prefilled(request, terms, stats, reason)
        assert request.prompt_token_ids is not None
        known = self._known.of(params.namespace)
        found = known.find(request.prompt_token_ids)
        plan = make_plan(request.prompt_token_ids, found, known.echo_of)
        rule = selector(terms.selector)
        if self._is_self_check(params) or params.recompute_ratio is not None:
            reason = too_little_known(plan)  # a request that states a ratio gets its blend, sooner or not
        else:
            reason = self._controller.reason_to_prefill(plan, rule, terms.ratio, lambda: self._found(request))
        if reason is not None:
            return self._prefilled(request, terms, stats, reason)
        origin = self._lineage.salt(request, plan, terms, sees_suffix=rule.question_layers is not None)
        chunks = tuple(map(known.use_of, plan.spans))
        stats = replace(stats, chunks=chunks, context_tokens=plan.num_tokens)
        began_at = self._repeats.began_at(request)
        if began_at is not None:
            show_blocks(request, began_at // self._block_size)
        return InFlight(
            request, plan, terms, own_salt, stats, origin, began_at=began_at, namespace=params.namespace
        )

    def _has_cached_prefix(self, request: Request, num_tokens: int) -> bool:
        """Whether the engine's cache holds this many leading tokens, except the beginning of a block."""
        return num_tokens - self._found(request) < self._block_size

    def _prefilled(
        self, request: Request, terms: Terms, stats: BlendStats, reason: PrefillReason
    ) -> InFlight:
        count_refused(self.meter, reason.reason)
        return InFlight(request, None, terms, request.cache_salt, replace(stats, fallback=reason.text))

    def _is_self_check(self, params: BlendParams) -> bool:
        """Whether the request comes from the self-check or the calibration."""
        return params.gate_key == self._settings.gate_key

    def _check_gate(self, params: BlendParams) -> PrefillReason | None:
        if self._is_self_check(params) or self._gate.current() is not None:
            return None
        text = "the model has not passed the self-check (see `kvblend doctor`)"
        return PrefillReason(Reason.SELF_CHECK, text)

    def matched(self, request: Request, num_computed: int) -> tuple[int | None, bool]:
        """How many tokens beyond `num_computed` are filled asynchronously; vLLM may ask again.

        None makes vLLM look up its cache once more, of which it is shown less by then:

        - a prompt that was asked before finds what it found then, see `blend.vllm.scheduler.repeats`;
        - a blend that has lost some of its blocks is not found at all: it is blended again, to the same rows.

        A pre-empted request takes what is left of its blocks, because its answer has begun.
        """
        state = self._requests.get(request.request_id)
        if state is None or state.plan is None:
            return 0, False
        show_all_blocks(request)
        shown = self._shown_before(state)
        if shown is not None and num_computed > shown:
            show_blocks(request, shown // self._block_size)
            return None, False
        num_context = state.plan.num_tokens
        state.found_tokens = min(num_computed, num_context)
        state.begins_at = max(num_computed, num_context)
        left = num_context - state.found_tokens
        if left < self._block_size:
            if left == 0 or self._repeats.tails.use(request.cache_salt or ""):
                return left, left > 0
            if num_computed > 0 and not state.has_begun:
                # Prefilled with the suffix, which costs less than probing the whole context once more.
                state.begins_at = num_computed
                return 0, False
        elif num_computed > 0 and not state.has_begun:
            self._show_nothing(state)
            return None, False
        return left, True

    def _shown_before(self, state: InFlight) -> int | None:
        """Tokens that the prompt found when it was asked before; None: no limit."""
        if state.began_at is None or state.has_begun:
            return None
        return state.began_at - state.began_at % self._block_size

    def _show_nothing(self, state: InFlight) -> None:
        if state.origin is not None and state.origin.is_found:
            state.origin = self._lineage.lost(state.request)
        else:
            show_blocks(state.request, 0)

    def allocated(self, request: Request, blocks: KVCacheBlocks, num_external: int) -> None:
        """The request has its blocks; fill the promised ones, by a blend or from a kept tail."""
        state = self._requests.get(request.request_id)
        if state is None or state.plan is None:
            return
        if not state.has_begun:
            self._repeats.begins_at(request, state.begins_at)
        (block_ids,) = blocks.get_block_ids()
        start, salt = state.plan.num_tokens - num_external, request.cache_salt or ""
        if num_external == 0:
            self._count_found(state, state.found_tokens)
        elif num_external < self._block_size and self._repeats.tails.use(salt):
            self._new_tails.append(TailTask(request.request_id, salt, block_ids[start // self._block_size]))
            self._count_found(state, state.plan.num_tokens)
        else:
            ends_block = state.plan.num_tokens % self._block_size == 0
            self._new_tasks.append(state.blend(start, block_ids, tail_as=None if ends_block else salt))

    def _count_found(self, state: InFlight, num_tokens: int) -> None:
        if not state.has_begun:
            state.found(num_tokens)
            count_found(self.meter, state.stats.counts)

    def orders(self, *, decoding: bool) -> StepOrders:
        """The workers' orders for this step.

        Args:
            decoding: see `StepOrders`.
        """
        tasks, self._new_tasks = tuple(self._new_tasks), []
        tails, self._new_tails = tuple(self._new_tails), []
        dropped = self._lineage.kept.pop_dropped() + self._repeats.tails.pop_dropped()
        return StepOrders(tasks, tails, dropped, decoding)

    def report(self, report: StepReport) -> None:
        """Record what the workers finished."""
        if report.rates is not None and not self._settings.always_blends:
            self._controller.learn_rates(report.rates)
        for request_id, outcome in report.outcomes.items():
            state = self._requests.get(request_id)
            if state is not None:
                self._record(state, outcome)
            if outcome.tail is not None:
                self._repeats.tails.add(outcome.tail, outcome.tail_bytes)
            for chunk_id in outcome.unreadable:
                self._known.forget(chunk_id)

    def _record(self, state: InFlight, outcome: BlendOutcome) -> None:
        if state.plan is None:
            return  # another rank failed before, and the request was given up
        if outcome.failure is not None:
            count_refused(self.meter, outcome.failure.reason)
            self._repeats.tails.drop(state.request.cache_salt or "")  # kept by ranks that did not fail
            state.failed(outcome.failure, outcome.residual)
            return
        self._controller.learn_cached(outcome.counts.cached_tokens, outcome.times.cached_rows_ms / 1e3)
        if state.origin is not None and state.origin.keep_as is not None:
            self._lineage.kept.add(state.origin.keep_as, outcome.kept_bytes)
        count_blend(self.meter, outcome, state.stats.counts.reused_tokens)
        state.blended(outcome)

    def remove(self, request_id: str) -> BlendStats | None:
        """Forget a request that ended and return its statistics."""
        self._new_tasks = [task for task in self._new_tasks if task.request_id != request_id]
        self._new_tails = [task for task in self._new_tails if task.request_id != request_id]
        state = self._requests.pop(request_id, None)
        return state.stats if state else None
