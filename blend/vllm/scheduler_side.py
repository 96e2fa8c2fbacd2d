"""The scheduler's half of the connector: which requests are blended, how, and what came of it."""

import logging
import time
from dataclasses import dataclass, replace

from vllm.v1.core.kv_cache_manager import KVCacheBlocks
from vllm.v1.request import Request

from blend.errors import RequestError
from blend.plan import BlendPlan, make_plan
from blend.salt import blend_salt
from blend.select import check_rule, selector
from blend.stats import BlendStats
from blend.vllm.gate_file import GateFile
from blend.vllm.known_chunks import KnownChunks
from blend.vllm.messages import BlendOutcome, BlendTask, StepOrders, StepReport
from blend.vllm.request_params import BlendParams
from blend.vllm.settings import Settings
from blend.vllm.terms import Terms, terms_of

logger = logging.getLogger(__name__)

MIN_KNOWN_TOKENS = 16
MIN_KNOWN_SHARE = 0.1


@dataclass(slots=True)
class InFlight:
    """What the scheduler knows of one request. Statistics are replaced, never edited.

    Attributes:
        plan: None when it is prefilled normally.
        own_salt: the salt that it came with.
        found_tokens: context tokens that lay in the engine's cache when it was last asked.
    """

    request: Request
    plan: BlendPlan | None
    terms: Terms
    own_salt: str | None
    stats: BlendStats
    found_tokens: int = 0


class SchedulerSide:
    """One per scheduler; called from its thread only.

    Args:
        settings: of the connector.
        block_size: tokens per block of the engine's cache, which holds whole blocks only.
    """

    def __init__(self, settings: Settings, block_size: int) -> None:
        self._settings = settings
        self._block_size = block_size
        self._gate = GateFile(settings.verdict_file)
        self._known = KnownChunks(settings.open_list())
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
            stats = BlendStats(fallback=f"{type(error).__name__}: {error}")
            terms = terms_of(BlendParams(), self._settings, None)
            state = InFlight(request, None, terms, own_salt, stats)
        match_ms = (time.perf_counter() - begin) * 1e3
        state.stats = replace(state.stats, match_ms=match_ms)
        self._requests[request.request_id] = state

    def _examine(self, request: Request) -> InFlight:
        params, own_salt = BlendParams.from_transfer(request.kv_transfer_params), request.cache_salt
        verdict = None if self._is_own(params) else self._gate.current()
        terms = terms_of(params, self._settings, verdict.calibration if verdict else None)
        # What "auto" comes to is known when the blend is done.
        ratio = 0.0 if isinstance(terms.ratio, str) else terms.ratio
        stats = BlendStats(ratio=ratio, selector=terms.selector)
        reason = _cannot_blend(request) or self._gated(params) or _refuse(terms)
        if reason is None and not params.enabled:
            reason = "blending was switched off for this request"
        if reason is not None:
            return InFlight(request, None, terms, own_salt, replace(stats, fallback=reason))
        assert request.prompt_token_ids is not None
        plan = make_plan(request.prompt_token_ids, self._known.find(request.prompt_token_ids))
        if not _is_worth_it(plan):
            stats = replace(stats, fallback="no known chunk in the prompt")
            return InFlight(request, None, terms, own_salt, stats)
        looks = selector(terms.selector).question_layers is not None
        suffix = plan.suffix_ids if looks and not self._settings.shares_blends else None
        limits = (terms.max_residual, terms.give_up_residual)
        _set_salt(request, blend_salt(own_salt, plan, terms.ratio, terms.selector, suffix, limits=limits))
        chunks = tuple(map(self._known.use_of, plan.spans))
        stats = replace(stats, chunks=chunks, context_tokens=plan.num_tokens)
        return InFlight(request, plan, terms, own_salt, stats)

    def _is_own(self, params: BlendParams) -> bool:
        """Whether the request is the self-check's or the calibration's own."""
        return params.gate_key == self._settings.gate_key

    def _gated(self, params: BlendParams) -> str | None:
        if self._is_own(params) or self._gate.current() is not None:
            return None
        return "the model has not passed the self-check (see `kvblend doctor`)"

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
                state.stats = replace(state.stats, reused_tokens=state.found_tokens, recomputed_tokens=left)
            return
        start = state.plan.num_tokens - num_external
        (block_ids,) = blocks.get_block_ids()
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
            )
        )

    def orders(self, *, others_run: bool) -> StepOrders:
        """What the workers are to do in this step."""
        tasks, self._new_tasks = tuple(self._new_tasks), []
        return StepOrders(tasks, others_run)

    def report(self, report: StepReport) -> None:
        """Take in what the workers finished."""
        for request_id, outcome in report.outcomes.items():
            state = self._requests.get(request_id)
            if state is not None:
                _take_in(state, outcome)
            for chunk_id in outcome.unreadable:
                self._known.forget(chunk_id)

    def remove(self, request_id: str) -> BlendStats | None:
        """Forget a request that ended, and say what happened to it."""
        self._new_tasks = [task for task in self._new_tasks if task.request_id != request_id]
        state = self._requests.pop(request_id, None)
        return state.stats if state else None


def _set_salt(request: Request, salt: str | None) -> None:
    request.cache_salt = salt
    request.block_hashes.clear()
    request.update_block_hashes()


def _refuse(terms: Terms) -> str | None:
    """Why a request's terms cannot be met, or None."""
    try:
        check_rule(terms.ratio, terms.selector)
    except RequestError as error:
        return str(error)
    return None


def _was_blended(stats: BlendStats) -> bool:
    return stats.exact_tokens + stats.reused_tokens + stats.recomputed_tokens + stats.cold_tokens > 0


def _is_worth_it(plan: BlendPlan) -> bool:
    """Whether enough is known of a prompt for a blend to gain anything.

    A prefix alone is better left to the engine's own prefix caching, which shares it between all
    requests; and a few known words must not turn a long plain prompt into a blend that computes it all.
    """
    known = sum(span.record.num_tokens for span in plan.spans if span.start > 0 or not span.exact)
    return known >= max(MIN_KNOWN_TOKENS, MIN_KNOWN_SHARE * plan.num_tokens)


def _take_in(state: InFlight, outcome: BlendOutcome) -> None:
    if state.plan is None:
        return  # another rank has failed, and the request was given up
    if outcome.failed:
        state.plan = None
        # What is prefilled now is exact: it must not be found by requests that expect the blend.
        _set_salt(state.request, state.own_salt)
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
    state.stats = replace(
        state.stats,
        exact_tokens=outcome.exact_tokens,
        reused_tokens=state.stats.reused_tokens + outcome.reused_tokens,
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
    )


def _cannot_blend(request: Request) -> str | None:
    """Why a request must be prefilled whatever it asks for, or None."""
    if request.pooling_params is not None:
        return "pooling requests are not blended"
    if request.prompt_token_ids is None or request.prompt_embeds is not None or request.mm_features:
        return "the prompt holds more than text"
    if request.lora_request is not None:
        return "chunk KV was computed without the LoRA adapter"
    if request.skip_reading_prefix_cache:
        return "the request asks for every prompt token to be computed (prompt logprobs)"
    if request.resumable:
        return "streaming-input sessions are not blended"
    return None
