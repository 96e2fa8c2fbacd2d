"""What the scheduler's half of the connector and the workers' half send each other."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorMetadata, KVConnectorWorkerMetadata

from blend.plan.plan import BlendPlan
from blend.plan.ratio import Ratio
from blend.report.detail import TokenState
from blend.report.stats import StageTimes, TokenCounts


class Reason(StrEnum):
    """Why a request is prefilled, as a metric's label: a fixed set, so that the number of series is fixed."""

    POOLING = "pooling"
    NOT_TEXT = "not_text"
    LORA = "lora"
    ALL_TOKENS = "all_tokens_asked"
    SESSION = "session"
    SELF_CHECK = "self_check"
    BAD_TERMS = "bad_terms"
    SWITCHED_OFF = "switched_off"
    NOTHING_KNOWN = "nothing_known"
    PREFILL_SOONER = "prefill_sooner"
    RESIDUAL = "residual"
    MODEL = "model"
    ERROR = "error"


class PrefillReason(NamedTuple):
    """Why a request is prefilled instead of blended: a label that is counted, and a text for its answer."""

    reason: Reason
    text: str


@dataclass(frozen=True, slots=True)
class BlendTask:
    """One request's context that the workers are to blend.

    Attributes:
        start: first context position to fill; the engine's pages hold everything before it.
        block_ids: the request's blocks in order, covering at least `plan.num_tokens` positions.
        ratio: recompute ratio, or "auto": as small as leaves at most `max_residual`.
        give_up_residual: residual above which the blend is given up and the request prefilled; None: never.
        trace: report which positions were selected.
        detail: report what became of each row.
        onto: name of the kept blend to top up; if the workers no longer keep it, stored chunks are used.
        keep_as: name to keep the rows under for later blends; None: do not keep them.
        tail_as: name to keep the page under that holds the end of the context; None when the context ends
            with a block.
        namespace: whose chunks the plan names, beside the shared ones; "" for none.
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
    """A kept page, the tail of a context, that the workers are to copy into a block of a request.

    Attributes:
        name: the `tail_as` of the blend whose tail it is.
    """

    request_id: str
    name: str
    block_id: int


@dataclass(frozen=True, slots=True)
class BlendOutcome:
    """What a worker did for one task.

    Attributes:
        counts: of the rows that were filled.
        ratio, residual: see `BlendStats`.
        failure: why the blend was given up, or None; the engine then prefills the context itself.
        unreadable: ids of planned chunks that could not be read and were computed cold, and of echoes that
            could not be read and were replaced by the chunks' first reads.
        selected: context positions that were computed, if the task asked for them.
        states: of the task's rows, if it asked for them.
        scores: of the last rows of the context, if it asked for them; see `blend.report.detail`.
        kept_bytes: of this worker's memory that hold the rows under the task's `keep_as`.
        tail: the task's `tail_as` if its page is kept; `tail_bytes`: of this worker's memory.
    """

    request_id: str
    counts: TokenCounts = field(default_factory=TokenCounts)
    times: StageTimes = field(default_factory=StageTimes)
    ratio: float = 0.0
    residual: float | None = None
    failure: PrefillReason | None = None
    unreadable: tuple[str, ...] = ()
    selected: tuple[int, ...] = ()
    states: tuple[TokenState, ...] = ()
    scores: tuple[float | None, ...] = ()
    kept_bytes: int = 0
    tail: str | None = None
    tail_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Rates:
    """What the model's layers cost, measured by the worker that runs them.

    Attributes:
        num_layers: L.
        layer_s: seconds that a layer takes whatever the number of rows.
        row_s: additional seconds per row.
        max_rows: rows of one pass of prefill, and of one slice of a blend.
    """

    num_layers: int
    layer_s: float
    row_s: float
    max_rows: tuple[int, int]

    def prefill_s(self, num_rows: int) -> float:
        """Seconds of all layers over rows that are prefilled."""
        return self.num_layers * self._layer_s(num_rows, self.max_rows[0])

    def recompute_s(self, num_rows: int) -> float:
        """Seconds of all layers over rows that a blend recomputes."""
        return self.num_layers * self._layer_s(num_rows, self.max_rows[1])

    def probe_s(self, num_tokens: int, num_layers: int) -> float:
        """Seconds of the question probe."""
        return num_layers * self._layer_s(num_tokens, num_tokens) if num_tokens else 0.0

    def _layer_s(self, num_rows: int, max_rows: int) -> float:
        return -(-num_rows // max_rows) * self.layer_s + num_rows * self.row_s


@dataclass(slots=True)
class StepOrders(KVConnectorMetadata):
    """Scheduler to workers, once per engine step.

    Attributes:
        tasks: blends to begin.
        tails: pages to restore.
        dropped: names of kept blends and tails to forget, before anything else.
        decoding: whether other requests compute tokens in this step, which blends must not delay much.
    """

    tasks: tuple[BlendTask, ...] = ()
    tails: tuple[TailTask, ...] = ()
    dropped: tuple[str, ...] = ()
    decoding: bool = False


@dataclass(slots=True)
class StepReport(KVConnectorWorkerMetadata):
    """Workers to scheduler, once per engine step.

    Attributes:
        rates: of the worker's layers; in its first report only.
    """

    outcomes: dict[str, BlendOutcome] = field(default_factory=dict)
    rates: Rates | None = None

    def aggregate(self, other: KVConnectorWorkerMetadata) -> "StepReport":
        assert isinstance(other, StepReport)
        merged = dict(self.outcomes)
        for request_id, outcome in other.outcomes.items():
            # If one rank fails, the request fails: the pages of all ranks must agree.
            if request_id not in merged or outcome.failure is not None:
                merged[request_id] = outcome
        return StepReport(merged, self.rates or other.rates)
