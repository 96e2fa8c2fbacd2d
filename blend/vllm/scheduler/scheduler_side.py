"""The scheduler's half of the connector: which requests are blended, how, and what came of it."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace

from vllm.v1.core.kv_cache_manager import KVCacheBlocks
from vllm.v1.request import Request

from blend.errors import RequestError
from blend.plan.plan import make_plan
from blend.plan.sharing import Sharing
from blend.report.metrics import Meter
from blend.report.stats import BlendStats
from blend.select import check_rule, selector
from blend.vllm.gate.verdict_file import GateFile
from blend.vllm.messages import BlendOutcome, BlendTask, StepOrders, StepReport, TailTask
from blend.vllm.request_params import BlendParams
from blend.vllm.scheduler.blend_metrics import count_blend, count_found, count_match, count_refused
from blend.vllm.scheduler.controller import Controller
from blend.vllm.scheduler.in_flight import InFlight
from blend.vllm.scheduler.known_chunks import KnownIn
from blend.vllm.scheduler.lineage import Lineage
from blend.vllm.scheduler.refusal import Reason, Refusal, cannot_blend
from blend.vllm.scheduler.repeats import Repeats, show_all_blocks, show_blocks
from blend.vllm.scheduler.terms import Terms, terms_of
from blend.vllm.settings import Settings

logger = logging.getLogger(__name__)


class SchedulerSide:
    """One per scheduler; called from its thread only.

    Args:
        settings: of the connector.
        block_size: tokens per block of the engine's cache, which holds whole blocks only.
        found: how many leading tokens of a request lie in the engine's cache under the salt it bears now.

    Attributes:
        meter: counts what becomes of requests.
    """

    def __init__(self, settings: Settings, block_size: int, found: Callable[[Request], int]) -> None:
        self._settings = settings
        self._block_size = block_size
        self._gate = GateFile(settings.verdict_file)
        self.meter = Meter(process="scheduler")
        self._known = KnownIn(lambda name: settings.within(name).open_list(self.meter))
        self._found = found
        self._lineage = Lineage(Sharing(settings.sharing), settings.kept_bytes, self._is_there)
        self._repeats = Repeats()
        self._floor, self._controller = Controller(), Controller()
        self._requests: dict[str, InFlight] = {}
        self._new_tasks: list[BlendTask] = []
        self._new_tails: list[TailTask] = []

    def add(self, request: Request) -> None:
        """Look for known chunks, and give a request that will be blended its own cache salt.

        The salt is set here, where every request passes, so that none can be served blocks of a blend
        that it did not ask for.
        """
        begin = time.perf_counter()
        own_salt, own_hashes = request.cache_salt, list(request.block_hashes)
        try:
            state = self._examine(request)
        except Exception as error:  # the scheduler's loop has nobody to catch it: the engine would die
            logger.exception("cannot tell whether %s can be blended; it is prefilled", request.request_id)
            request.cache_salt, request.block_hashes[:] = own_salt, own_hashes
            terms = terms_of(BlendParams(), self._settings, None)
            refusal = Refusal(Reason.ERROR, f"{type(error).__name__}: {error}")
            state = self._refused(request, terms, BlendStats(), refusal)
        match_ms = (time.perf_counter() - begin) * 1e3
        if state.plan is not None:
            count_match(self.meter, match_ms)
        state.stats = replace(state.stats, match_ms=match_ms)
        self._requests[request.request_id] = state

    def _examine(self, request: Request) -> InFlight:
        params, own_salt = BlendParams.from_transfer(request.kv_transfer_params), request.cache_salt
        verdict = None if self._is_own(params) else self._gate.current()
        terms = terms_of(params, self._settings, verdict.calibration if verdict else None)
        # What "auto" comes to is known when the blend is done.
        ratio = 0.0 if isinstance(terms.ratio, str) else terms.ratio
        stats = BlendStats(ratio=ratio, selector=terms.selector)
        refusal = cannot_blend(request) or self._gated(params) or _refuse(terms)
        if refusal is None and not params.enabled:
            refusal = Refusal(Reason.SWITCHED_OFF, "blending was switched off for this request")
        if refusal is not None:
            return self._refused(request, terms, stats, refusal)
        assert request.prompt_token_ids is not None
        known = self._known.of(params.namespace)
        found = known.find(request.prompt_token_ids)
        plan = make_plan(request.prompt_token_ids, found, known.echo_of)
        rule = selector(terms.selector)
        if self._is_own(params) or params.recompute_ratio is not None:  # who asks for a blend gets one
            why = self._floor.why_not(plan, rule, terms.ratio)
        else:
            why = self._controller.why_not(plan, rule, terms.ratio, lambda: self._found(request))
        if why is not None:
            reason = Reason.PREFILL_SOONER if why.is_predicted else Reason.NOTHING_KNOWN
            return self._refused(request, terms, stats, Refusal(reason, why.text))
        looks = rule.question_layers is not None
        origin = self._lineage.salt(request, plan, terms, looks=looks)
        chunks = tuple(map(known.use_of, plan.spans))
        stats = replace(stats, chunks=chunks, context_tokens=plan.num_tokens)
        began_at = self._repeats.began_at(request)
        if began_at is not None:
            show_blocks(request, began_at // self._block_size)
        return InFlight(
            request, plan, terms, own_salt, stats, origin, began_at=began_at, namespace=params.namespace
        )

    def _is_there(self, request: Request, num_tokens: int) -> bool:
        """Whether so many leading tokens lie in the engine's cache, but for the beginning of a block."""
        return num_tokens - self._found(request) < self._block_size

    def _refused(self, request: Request, terms: Terms, stats: BlendStats, refusal: Refusal) -> InFlight:
        count_refused(self.meter, refusal.reason)
        return InFlight(request, None, terms, request.cache_salt, replace(stats, fallback=refusal.text))

    def _is_own(self, params: BlendParams) -> bool:
        """Whether the request is the self-check's or the calibration's own."""
        return params.gate_key == self._settings.gate_key

    def _gated(self, params: BlendParams) -> Refusal | None:
        if self._is_own(params) or self._gate.current() is not None:
            return None
        return Refusal(Reason.SELF_CHECK, "the model has not passed the self-check (see `kvblend doctor`)")

    def matched(self, request: Request, num_computed: int) -> tuple[int | None, bool]:
        """How many tokens beyond `num_computed` are filled asynchronously; may be asked again.

        None lets vLLM look once more at what is in its cache, of which it is shown less by then:

        - a prompt that was asked before finds what it found then, see `blend.vllm.scheduler.repeats`;
        - of a blend whose blocks were evicted in part nothing is found: it is blended anew, to the same rows.

        A request that had to give way takes what is left of its blocks: its answer has begun.
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
                # Prefilled with the suffix, which costs less than looking at the whole context once more.
                state.begins_at = num_computed
                return 0, False
        elif num_computed > 0 and not state.has_begun:
            self._show_nothing(state)
            return None, False
        return left, True

    def _shown_before(self, state: InFlight) -> int | None:
        """Tokens that the prompt found when it was asked before; None: it may find all that there are."""
        if state.began_at is None or state.has_begun:
            return None
        return state.began_at - state.began_at % self._block_size

    def _show_nothing(self, state: InFlight) -> None:
        if state.origin is not None and state.origin.is_found:
            state.origin = self._lineage.lost(state.request)
        else:
            show_blocks(state.request, 0)

    def allocated(self, request: Request, blocks: KVCacheBlocks, num_external: int) -> None:
        """The request's blocks are there; fill those that it was promised, by a blend or from a kept tail."""
        state = self._requests.get(request.request_id)
        if state is None or state.plan is None:
            return
        if not state.has_begun:
            self._repeats.begins_at(request, state.begins_at)
        (block_ids,) = blocks.get_block_ids()
        start, salt = state.plan.num_tokens - num_external, request.cache_salt or ""
        if num_external == 0:
            self._finds(state, state.found_tokens)
        elif num_external < self._block_size and self._repeats.tails.use(salt):
            self._new_tails.append(TailTask(request.request_id, salt, block_ids[start // self._block_size]))
            self._finds(state, state.plan.num_tokens)
        else:
            ends_block = state.plan.num_tokens % self._block_size == 0
            self._new_tasks.append(state.blend(start, block_ids, tail_as=None if ends_block else salt))

    def _finds(self, state: InFlight, num_tokens: int) -> None:
        if not state.has_begun:
            state.found(num_tokens)
            count_found(self.meter, state.stats.reused_tokens, state.stats.recomputed_tokens)

    def orders(self, *, others_run: bool) -> StepOrders:
        """What the workers are to do in this step."""
        tasks, self._new_tasks = tuple(self._new_tasks), []
        tails, self._new_tails = tuple(self._new_tails), []
        dropped = self._lineage.kept.take_dropped() + self._repeats.tails.take_dropped()
        return StepOrders(tasks, tails, dropped, others_run)

    def report(self, report: StepReport) -> None:
        """Take in what the workers finished."""
        if report.rates is not None and not self._settings.always_blends:
            self._controller.learn_rates(report.rates)
        for request_id, outcome in report.outcomes.items():
            state = self._requests.get(request_id)
            if state is not None:
                self._take_in(state, outcome)
            if outcome.tail is not None:
                self._repeats.tails.add(outcome.tail, outcome.tail_bytes)
            for chunk_id in outcome.unreadable:
                self._known.forget(chunk_id)

    def _take_in(self, state: InFlight, outcome: BlendOutcome) -> None:
        if state.plan is None:
            return  # another rank has failed, and the request was given up
        if outcome.failed:
            count_refused(self.meter, outcome.reason)
            self._repeats.tails.drop(state.request.cache_salt or "")  # of ranks that did not fail
            state.failed(outcome)
            return
        cached_ms = outcome.load_ms + outcome.realign_ms + outcome.write_ms
        self._controller.learn_cached(outcome.reused_tokens + outcome.exact_tokens, cached_ms / 1e3)
        if state.origin is not None and state.origin.keep_as is not None:
            self._lineage.kept.add(state.origin.keep_as, outcome.kept_bytes)
        count_blend(self.meter, outcome, state.stats.reused_tokens)
        state.blended(outcome)

    def remove(self, request_id: str) -> BlendStats | None:
        """Forget a request that ended, and say what happened to it."""
        self._new_tasks = [task for task in self._new_tasks if task.request_id != request_id]
        self._new_tails = [task for task in self._new_tails if task.request_id != request_id]
        state = self._requests.pop(request_id, None)
        return state.stats if state else None


def _refuse(terms: Terms) -> Refusal | None:
    """Why a request's terms cannot be met, or None."""
    try:
        check_rule(terms.ratio, terms.selector)
    except RequestError as error:
        return Refusal(Reason.BAD_TERMS, str(error))
    return None
