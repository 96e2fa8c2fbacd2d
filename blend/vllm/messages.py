"""What the scheduler's and the workers' halves of the connector tell each other."""

from dataclasses import dataclass, field

from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorMetadata, KVConnectorWorkerMetadata

from blend.plan.plan import BlendPlan
from blend.plan.ratio import Ratio
from blend.report.detail import TokenState
from blend.vllm.scheduler.controller import Rates
from blend.vllm.scheduler.refusal import Reason


@dataclass(frozen=True, slots=True)
class BlendTask:
    """One request's context that the workers are to blend.

    Attributes:
        start: first context position to fill; everything before it already lies in the pages.
        block_ids: the request's blocks in order, covering at least `plan.num_tokens` positions.
        ratio: recompute ratio, or "auto": as little as leaves at most `max_residual`.
        give_up_residual: a blend that would leave more than this is left to full prefill; None: never.
        trace: the outcome is to say which positions were selected.
        detail: the outcome is to say what became of each row.
        onto: name of the kept blend to top up; where there is none any more, it is made of stored chunks.
        keep_as: name to keep the rows under, for blends to come; None: they are not kept.
        tail_as: name to keep the page under that holds the end of the context; None: it ends with its block.
        namespace: whose chunks the plan names, beside everybody's; "" for none.
    """

    request_id: str
    plan: BlendPlan
    start: int
    block_ids: tuple[int, ...]
    ratio: Ratio
    selector: str
    max_residual: float
    give_up_residual: float | None = None
    trace: bool = False
    detail: bool = False
    onto: str | None = None
    keep_as: str | None = None
    tail_as: str | None = None
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class TailTask:
    """The page of a kept tail that is to be copied into a block of a request.

    Attributes:
        name: the `tail_as` of the blend that it was kept of.
    """

    request_id: str
    name: str
    block_id: int


@dataclass(frozen=True, slots=True)
class BlendOutcome:
    """What a worker did for one task.

    Attributes:
        ratio, residual: see `BlendStats`.
        failed: why the blend was given up, or None; the engine then prefills the context itself.
        reason: the same in a word.
        unreadable: ids of chunks that were planned but could not be read, and were computed cold; and of
            echoes, in whose place the chunks' first readings were taken.
        selected: context positions that were computed, where the task asked for them.
        states: of the task's rows, where it asked for them.
        scores: of the last of the context's rows, where it asked for them; see `blend.detail`.
        kept_bytes: of this worker's memory that hold the rows now, under the task's `keep_as`.
        tail: the task's `tail_as`, where the page is kept; `tail_bytes`: of this worker's memory.
    """

    request_id: str
    exact_tokens: int = 0
    reused_tokens: int = 0
    recomputed_tokens: int = 0
    cold_tokens: int = 0
    load_ms: float = 0.0
    realign_ms: float = 0.0
    select_ms: float = 0.0
    recompute_ms: float = 0.0
    write_ms: float = 0.0
    ratio: float = 0.0
    residual: float | None = None
    failed: str | None = None
    reason: Reason = Reason.ERROR
    unreadable: tuple[str, ...] = ()
    selected: tuple[int, ...] = ()
    states: tuple[TokenState, ...] = ()
    scores: tuple[float | None, ...] = ()
    kept_bytes: int = 0
    tail: str | None = None
    tail_bytes: int = 0

    @property
    def stages_ms(self) -> dict[str, float]:
        """Milliseconds by stage."""
        return {
            "load": self.load_ms,
            "realign": self.realign_ms,
            "select": self.select_ms,
            "recompute": self.recompute_ms,
            "write": self.write_ms,
        }


@dataclass(slots=True)
class StepOrders(KVConnectorMetadata):
    """Scheduler to workers, once per engine step.

    Attributes:
        tasks: blends to begin.
        tails: pages to restore.
        dropped: names of kept blends and tails to forget, before anything else.
        others_run: whether other requests compute tokens in this step, which blends must not hold up.
    """

    tasks: tuple[BlendTask, ...] = ()
    tails: tuple[TailTask, ...] = ()
    dropped: tuple[str, ...] = ()
    others_run: bool = False


@dataclass(slots=True)
class StepReport(KVConnectorWorkerMetadata):
    """Workers to scheduler, once per engine step.

    Attributes:
        rates: of the worker's layers, with its first report.
    """

    outcomes: dict[str, BlendOutcome] = field(default_factory=dict)
    rates: Rates | None = None

    def aggregate(self, other: KVConnectorWorkerMetadata) -> "StepReport":
        assert isinstance(other, StepReport)
        merged = dict(self.outcomes)
        for request_id, outcome in other.outcomes.items():
            # One rank's failure is the request's failure: the ranks' pages must agree.
            if request_id not in merged or outcome.failed:
                merged[request_id] = outcome
        return StepReport(merged, self.rates or other.rates)
