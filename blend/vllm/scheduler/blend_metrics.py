"""What is counted of blends, by the scheduler's half: once for all ranks."""

from blend.report.metrics import Kind, Meter, Metric
from blend.vllm.messages import BlendOutcome
from blend.vllm.scheduler.refusal import Reason

BLENDED, FOUND, REFUSED = "blended", "found", "refused"

BLENDS = Metric(
    "kvblend_blends",
    Kind.COUNTER,
    "Contexts that were blended, found in the engine's pages as an earlier blend, or refused and prefilled.",
    ("outcome", "reason"),
)
TOKENS = Metric(
    "kvblend_context_tokens",
    Kind.COUNTER,
    "Context tokens of blends by what they are; found ones lay in the engine's pages.",
    ("kind",),
)
STAGES = Metric("kvblend_stage_seconds", Kind.HISTOGRAM, "Seconds of a blend by stage.", ("stage",))

METRICS = (BLENDS, TOKENS, STAGES)


def count_refused(meter: Meter, reason: Reason) -> None:
    """A request is prefilled normally."""
    meter.add(BLENDS, 1, REFUSED, reason.value)


def count_found(meter: Meter, found_tokens: int, left_tokens: int) -> None:
    """A context lay in the engine's pages, all but the beginning of a block."""
    meter.add(BLENDS, 1, FOUND, "")
    _count_tokens(meter, found=found_tokens, recomputed=left_tokens)


def count_match(meter: Meter, match_ms: float) -> None:
    """Known chunks were found in a prompt."""
    meter.observe(STAGES, match_ms / 1e3, "match")


def count_blend(meter: Meter, outcome: BlendOutcome, found_tokens: int) -> None:
    """A blend was done.

    Args:
        found_tokens: that lay in the engine's pages before it.
    """
    meter.add(BLENDS, 1, BLENDED, "")
    _count_tokens(
        meter,
        found=found_tokens,
        exact=outcome.exact_tokens,
        reused=outcome.reused_tokens,
        recomputed=outcome.recomputed_tokens,
        cold=outcome.cold_tokens,
    )
    for stage, ms in outcome.stages_ms.items():
        meter.observe(STAGES, ms / 1e3, stage)


def _count_tokens(meter: Meter, **tokens: int) -> None:
    for kind, num in tokens.items():
        meter.add(TOKENS, num, kind)
