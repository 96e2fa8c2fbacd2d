"""What the scheduler knows of one request, from its arrival to its end."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vllm.v1.request import Request

from blend.plan.plan import BlendPlan
from blend.report.detail import ContextDetail, TokenState, context_detail
from blend.report.stats import BlendStats, TokenCounts
from blend.select import selector
from blend.vllm.messages import BlendOutcome, BlendTask, PrefillReason
from blend.vllm.request_params import BlendParams
from blend.vllm.scheduler.lineage import Origin, set_salt
from blend.vllm.scheduler.terms import Terms


@dataclass(slots=True)
class InFlight:
    """One request. Statistics are replaced, never edited.

    Attributes:
        plan: None when the request is prefilled normally.
        own_salt: the salt that the request came with.
        origin: what its rows are made of; None when it is prefilled normally.
        found_tokens: context tokens that were in the engine's cache at its last lookup.
        began_at: first token that vLLM itself computed when this prompt was asked before, see `Repeats`.
        begins_at: first token that vLLM is to compute itself.
        namespace: whose chunks it is blended from, beside the shared ones.
    """

    request: Request
    plan: BlendPlan | None
    terms: Terms
    own_salt: str | None
    stats: BlendStats
    origin: Origin | None = None
    found_tokens: int = 0
    began_at: int | None = None
    begins_at: int = 0
    namespace: str = ""

    @property
    def has_begun(self) -> bool:
        """Whether its context was filled before, so that it was pre-empted afterwards."""
        return self.stats.counts.num_tokens > 0

    @property
    def params(self) -> BlendParams:
        return BlendParams.from_transfer(self.request.kv_transfer_params)

    def blend(self, start: int, block_ids: Sequence[int], *, tail_as: str | None) -> BlendTask:
        """The task that fills its context from a position on."""
        assert self.plan is not None and self.origin is not None, "a request with a plan has an origin"
        params, terms = self.params, self.terms
        self.stats = replace(self.stats, counts=TokenCounts(reused_tokens=start))
        return BlendTask(
            self.request.request_id,
            self.plan,
            start,
            tuple(block_ids),
            terms.ratio,
            terms.selector,
            max_residual=terms.max_residual,
            give_up_residual=terms.give_up_residual,
            trace=params.trace,
            detail=params.detail,
            onto=self.origin.onto,
            keep_as=self.origin.keep_as,
            tail_as=tail_as,
            namespace=self.namespace,
        )

    def found(self, num_tokens: int) -> None:
        """An equal earlier blend filled this much of its context; the rest is prefilled."""
        assert self.plan is not None
        left = self.plan.num_tokens - num_tokens
        states = (TokenState.FOUND,) * num_tokens + (TokenState.RECOMPUTED,) * left
        self.stats = replace(
            self.stats,
            counts=TokenCounts(reused_tokens=num_tokens, recomputed_tokens=left),
            tokens=self._detail(states) if self.params.detail else None,
        )

    def blended(self, outcome: BlendOutcome) -> None:
        """Its blend has finished."""
        found = self.stats.counts  # tokens that were in the engine's pages before
        states = (TokenState.FOUND,) * found.reused_tokens + outcome.states
        self.stats = replace(
            self.stats,
            counts=found + outcome.counts,
            times=replace(outcome.times, match_ms=self.stats.times.match_ms),
            ratio=outcome.ratio,
            residual=outcome.residual,
            selected=outcome.selected,
            tokens=self._detail(states, outcome.scores) if outcome.states else None,
        )

    def failed(self, reason: PrefillReason, residual: float | None) -> None:
        """Its blend was given up: it is prefilled, and counted as if no chunk were stored."""
        self.plan = None
        # The rows are prefilled now, hence exact: requests that expect the blend must not find them.
        set_salt(self.request, self.own_salt)
        self.stats = replace(
            self.stats,
            chunks=(),
            context_tokens=0,
            counts=TokenCounts(),
            residual=residual,
            fallback=reason.text,
        )

    def _detail(self, states: Sequence[TokenState], scores: Sequence[float | None] = ()) -> ContextDetail:
        spans = [(use.start, use.num_tokens) for use in self.stats.chunks]
        return context_detail(spans, states, scores, selector(self.terms.selector).measure)
