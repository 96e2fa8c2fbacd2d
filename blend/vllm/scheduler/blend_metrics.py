"""Metrics of blends, counted by the scheduler: once for all ranks."""

from dataclasses import asdict

from blend.report.metrics import Kind, Meter, Metric
from blend.report.stats import TokenCounts
from blend.vllm.messages import BlendOutcome, Reason

BLENDED, FOUND, REFUSED = "blended", "found", "refused"

BLENDS = Metric(
    "kvblend_blends",
    Kind.COUNTER,
    "Contexts by outcome: blended, found in the engine's pages, or refused and prefilled.",
    ("outcome", "reason"),
)
TOKENS = Metric(
    "kvblend_context_tokens",
    Kind.COUNTER,
    "Context tokens of blends by kind; found ones were in the engine's pages before the request.",
    ("kind",),
)
STAGES = Metric(
    "kvblend_stage_seconds", Kind.HISTOGRAM, "Seconds that a blend spends in a stage.", ("stage",)
)

METRICS = (BLENDS, TOKENS, STAGES)


def count_refused(meter: Meter, reason: Reason) -> None:
    """Count a request that is prefilled normally."""
    meter.add(BLENDS, 1, REFUSED, reason.value)


def count_found(meter: Meter, counts: TokenCounts) -> None:
    """Count a context that was in the engine's pages, except the beginning of a block."""
    meter.add(BLENDS, 1, FOUND, "")
    meter.add(TOKENS, counts.reused_tokens, "found")
    meter.add(TOKENS, counts.recomputed_tokens, "recomputed")


def count_match(meter: Meter, match_ms: float) -> None:
    """Record the time that finding known chunks in a prompt took."""
    meter.observe(STAGES, match_ms / 1e3, "match")


def count_blend(meter: Meter, outcome: BlendOutcome, found_tokens: int) -> None:
    """Count a finished blend.

    Args:
        found_tokens: context tokens that were in the engine's pages before.
    """
    meter.add(BLENDS, 1, BLENDED, "")
    meter.add(TOKENS, found_tokens, "found")
    for name, num in asdict(outcome.counts).items():
        meter.add(TOKENS, num, name.removesuffix("_tokens"))
    for name, ms in asdict(outcome.times).items():
        if name != "match_ms":  # `count_match` did
            meter.observe(STAGES, ms / 1e3, name.removesuffix("_ms"))
