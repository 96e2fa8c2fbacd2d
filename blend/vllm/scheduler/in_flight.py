"""What the scheduler knows of one request, from its arrival to its end."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vllm.v1.request import Request

from blend.plan.plan import BlendPlan
from blend.report.detail import ContextDetail, TokenState, context_detail
from blend.report.stats import BlendStats
from blend.select import selector
from blend.vllm.messages import BlendOutcome, BlendTask
from blend.vllm.request_params import BlendParams
from blend.vllm.scheduler.lineage import Origin, set_salt
from blend.vllm.scheduler.terms import Terms


@dataclass(slots=True)
class InFlight:
    """One request. Statistics are replaced, never edited.

    Attributes:
        plan: None when it is prefilled normally.
        own_salt: the salt that it came with.
        origin: what its rows are made of; None when it is prefilled normally.
        found_tokens: context tokens that lay in the engine's cache when it was last asked.
        began_at: first token that vLLM itself computed when this prompt was asked before, see `Repeats`.
        begins_at: first token that vLLM is to compute itself.
        namespace: whose chunks it is blended from, beside everybody's.
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
        """Whether its context was filled once already, before it had to give way to others."""
        stats = self.stats
        return stats.exact_tokens + stats.reused_tokens + stats.recomputed_tokens + stats.cold_tokens > 0

    @property
    def params(self) -> BlendParams:
        return BlendParams.from_transfer(self.request.kv_transfer_params)

    def blend(self, start: int, block_ids: Sequence[int], *, tail_as: str | None) -> BlendTask:
        """The task that fills its context from a position on."""
        assert self.plan is not None and self.origin is not None, "what has a plan has an origin"
        params, terms = self.params, self.terms
        self.stats = replace(
            self.stats, reused_tokens=start, recomputed_tokens=0, cold_tokens=0, exact_tokens=0
        )
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
        """So much of its context was filled by an earlier blend just like it; the rest is prefilled."""
        assert self.plan is not None
        left = self.plan.num_tokens - num_tokens
        states = (TokenState.FOUND,) * num_tokens + (TokenState.RECOMPUTED,) * left
        self.stats = replace(
            self.stats,
            reused_tokens=num_tokens,
            recomputed_tokens=left,
            tokens=self._detail(states) if self.params.detail else None,
        )

    def blended(self, outcome: BlendOutcome) -> None:
        """Its blend is done."""
        found_tokens = self.stats.reused_tokens
        states = (TokenState.FOUND,) * found_tokens + outcome.states
        self.stats = replace(
            self.stats,
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
            tokens=self._detail(states, outcome.scores) if outcome.states else None,
        )

    def failed(self, outcome: BlendOutcome) -> None:
        """Its blend was given up: it is prefilled, and counts as if nothing of it were stored."""
        self.plan = None
        # What is prefilled now is exact: it must not be found by requests that expect the blend.
        set_salt(self.request, self.own_salt)
        self.stats = replace(
            self.stats,
            chunks=(),
            context_tokens=0,
            reused_tokens=0,
            residual=outcome.residual,
            fallback=outcome.failed,
        )

    def _detail(self, states: Sequence[TokenState], scores: Sequence[float | None] = ()) -> ContextDetail:
        spans = [(use.start, use.num_tokens) for use in self.stats.chunks]
        return context_detail(spans, states, scores, selector(self.terms.selector).measure)
