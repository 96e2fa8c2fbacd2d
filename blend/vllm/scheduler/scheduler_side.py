"""The scheduler's half of the connector: which requests are blended, how, and what came of it."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from vllm.v1.core.kv_cache_manager import KVCacheBlocks
from vllm.v1.request import Request

from blend.errors import RequestError
from blend.plan.plan import BlendPlan, make_plan
from blend.plan.sharing import Sharing
from blend.report.detail import ContextDetail, TokenState, context_detail
from blend.report.metrics import Meter
from blend.report.stats import BlendStats
from blend.select import check_rule, selector
from blend.vllm.gate.verdict_file import GateFile
from blend.vllm.messages import BlendOutcome, BlendTask, StepOrders, StepReport
from blend.vllm.request_params import BlendParams
from blend.vllm.scheduler.blend_metrics import count_blend, count_found, count_match, count_refused
from blend.vllm.scheduler.controller import Controller
from blend.vllm.scheduler.known_chunks import KnownIn
from blend.vllm.scheduler.lineage import Lineage, Origin, set_salt
from blend.vllm.scheduler.refusal import Reason, Refusal, cannot_blend
from blend.vllm.scheduler.terms import Terms, terms_of
from blend.vllm.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class InFlight:
    """What the scheduler knows of one request. Statistics are replaced, never edited.

    Attributes:
        plan: None when it is prefilled normally.
        own_salt: the salt that it came with.
        origin: what its rows are made of; None when it is prefilled normally.
        found_tokens: context tokens that lay in the engine's cache when it was last asked.
        namespace: whose chunks it is blended from, beside everybody's.
    """

    request: Request
    plan: BlendPlan | None
    terms: Terms
    own_salt: str | None
    stats: BlendStats
    origin: Origin | None = None
    found_tokens: int = 0
    namespace: str = ""


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
        self._floor, self._controller = Controller(), Controller()
        self._requests: dict[str, InFlight] = {}
        self._new_tasks: list[BlendTask] = []

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
        return InFlight(request, plan, terms, own_salt, stats, origin, namespace=params.namespace)

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

    def matched(self, request: Request, num_computed: int) -> tuple[int, bool]:
        """How many tokens beyond `num_computed` a blend will fill, asynchronously; may be asked again.

        Of a blend that is there, all but the beginning of a block is found; that is prefilled with the
        suffix, which costs less than looking at the whole context once more. A request that was blended
        itself and had to give way is blended as before: its answer has begun.
        """
        state = self._requests.get(request.request_id)
        if state is None or state.plan is None:
            return 0, False
        state.found_tokens = min(num_computed, state.plan.num_tokens)
        left = state.plan.num_tokens - state.found_tokens
        is_found = num_computed > 0 and left < self._block_size and not _was_blended(state.stats)
        if left == 0 or is_found:
            return 0, False
        if state.origin is not None and state.origin.is_found:
            state.origin = self._lineage.lost(request)
        return left, True

    def allocated(self, request: Request, blocks: KVCacheBlocks, num_external: int) -> None:
        """The request's blocks are there; begin its blend if it was promised one."""
        state = self._requests.get(request.request_id)
        if state is None or state.plan is None:
            return
        if num_external == 0:
            if not _was_blended(state.stats):
                # The context was found in the engine's cache, from an earlier blend just like it.
                left = state.plan.num_tokens - state.found_tokens
                count_found(self.meter, state.found_tokens, left)
                stats = replace(state.stats, reused_tokens=state.found_tokens, recomputed_tokens=left)
                if _wants_detail(request):
                    states = (TokenState.FOUND,) * state.found_tokens + (TokenState.RECOMPUTED,) * left
                    stats = replace(stats, tokens=_detail(state, states))
                state.stats = stats
            return
        start = state.plan.num_tokens - num_external
        (block_ids,) = blocks.get_block_ids()
        assert state.origin is not None, "what has a plan has an origin"
        state.stats = replace(
            state.stats, reused_tokens=start, recomputed_tokens=0, cold_tokens=0, exact_tokens=0
        )
        self._new_tasks.append(
            BlendTask(
                request.request_id,
                state.plan,
                start,
                tuple(block_ids),
                state.terms.ratio,
                state.terms.selector,
                max_residual=state.terms.max_residual,
                give_up_residual=state.terms.give_up_residual,
                trace=BlendParams.from_transfer(request.kv_transfer_params).trace,
                detail=_wants_detail(request),
                onto=state.origin.onto,
                keep_as=state.origin.keep_as,
                namespace=state.namespace,
            )
        )

    def orders(self, *, others_run: bool) -> StepOrders:
        """What the workers are to do in this step."""
        tasks, self._new_tasks = tuple(self._new_tasks), []
        return StepOrders(tasks, self._lineage.take_dropped(), others_run)

    def report(self, report: StepReport) -> None:
        """Take in what the workers finished."""
        if report.rates is not None and not self._settings.always_blends:
            self._controller.learn_rates(report.rates)
        for request_id, outcome in report.outcomes.items():
            state = self._requests.get(request_id)
            if state is not None:
                self._take_in(state, outcome)
            for chunk_id in outcome.unreadable:
                self._known.forget(chunk_id)

    def _take_in(self, state: InFlight, outcome: BlendOutcome) -> None:
        if state.plan is None:
            return  # another rank has failed, and the request was given up
        if outcome.failed:
            count_refused(self.meter, outcome.reason)
            state.plan = None
            # What is prefilled now is exact: it must not be found by requests that expect the blend.
            set_salt(state.request, state.own_salt)
            # Nothing of the context was taken from the store: there is nothing to count.
            state.stats = replace(
                state.stats,
                chunks=(),
                context_tokens=0,
                reused_tokens=0,
                residual=outcome.residual,
                fallback=outcome.failed,
            )
            return
        cached_ms = outcome.load_ms + outcome.realign_ms + outcome.write_ms
        self._controller.learn_cached(outcome.reused_tokens + outcome.exact_tokens, cached_ms / 1e3)
        if state.origin is not None and state.origin.keep_as is not None:
            self._lineage.kept(state.origin.keep_as, outcome.kept_bytes)
        found_tokens = state.stats.reused_tokens
        count_blend(self.meter, outcome, found_tokens)
        state.stats = replace(
            state.stats,
            exact_tokens=outcome.exact_tokens,
            reused_tokens=found_tokens + outcome.reused_tokens,
            recomputed_tokens=outcome.recomputed_tokens,
            cold_tokens=outcome.cold_tokens,
            load_ms=outcome.load_ms,
            realign_ms=outcome.realign_ms,
            select_ms=outcome.select_ms,
            recompute_ms=outcome.recompute_ms,
            write_ms=outcome.write_ms,
            ratio=outcome.ratio,
            residual=outcome.residual,
            selected=outcome.selected,
            tokens=_told(state, found_tokens, outcome) if outcome.states else None,
        )

    def remove(self, request_id: str) -> BlendStats | None:
        """Forget a request that ended, and say what happened to it."""
        self._new_tasks = [task for task in self._new_tasks if task.request_id != request_id]
        state = self._requests.pop(request_id, None)
        return state.stats if state else None


def _wants_detail(request: Request) -> bool:
    return BlendParams.from_transfer(request.kv_transfer_params).detail


def _told(state: InFlight, found_tokens: int, outcome: BlendOutcome) -> ContextDetail:
    return _detail(state, (TokenState.FOUND,) * found_tokens + outcome.states, outcome.scores)


def _detail(
    state: InFlight, states: Sequence[TokenState], scores: Sequence[float | None] = ()
) -> ContextDetail:
    spans = [(use.start, use.num_tokens) for use in state.stats.chunks]
    return context_detail(spans, states, scores, selector(state.terms.selector).measure)


def _refuse(terms: Terms) -> Refusal | None:
    """Why a request's terms cannot be met, or None."""
    try:
        check_rule(terms.ratio, terms.selector)
    except RequestError as error:
        return Refusal(Reason.BAD_TERMS, str(error))
    return None


def _was_blended(stats: BlendStats) -> bool:
    return stats.exact_tokens + stats.reused_tokens + stats.recomputed_tokens + stats.cold_tokens > 0
