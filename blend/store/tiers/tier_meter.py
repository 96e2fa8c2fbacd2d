"""What each tier counts of its own work."""

import time

from blend.report.metrics import Kind, Meter, Metric

READ, WRITE = "read", "write"

HITS = Metric("kvblend_store_hits", Kind.COUNTER, "Chunks that were asked for and found.", ("tier",))
MISSES = Metric(
    "kvblend_store_misses",
    Kind.COUNTER,
    "Chunks that were asked for, and were absent or unusable.",
    ("tier",),
)
BYTES = Metric(
    "kvblend_store_bytes",
    Kind.COUNTER,
    "Bytes of keys and values that were read or written, as tensors.",
    ("tier", "direction"),
)
TIME = Metric(
    "kvblend_store_seconds", Kind.COUNTER, "Seconds that reading or writing took.", ("tier", "direction")
)
EVICTIONS = Metric("kvblend_store_evictions", Kind.COUNTER, "Chunks that were evicted.", ("tier",))
CORRUPT = Metric("kvblend_store_corrupt", Kind.COUNTER, "Stored chunks that failed a check.", ("tier",))
HELD = Metric("kvblend_store_held_bytes", Kind.GAUGE, "Bytes of tensors that a tier holds now.", ("tier",))

FAILURES = Metric(
    "kvblend_remote_failures", Kind.COUNTER, "Calls to the remote that failed or missed their deadline."
)
SKIPPED = Metric(
    "kvblend_remote_skipped", Kind.COUNTER, "Calls to the remote that the open circuit breaker rejected."
)
CIRCUIT_OPEN = Metric(
    "kvblend_remote_circuit_open", Kind.GAUGE, "1 while the circuit breaker rejects calls to the remote."
)

METRICS = (HITS, MISSES, BYTES, TIME, EVICTIONS, CORRUPT, HELD, FAILURES, SKIPPED, CIRCUIT_OPEN)
"""Of all tiers; here rather than with the remote, which a process without one does not import."""


class TierMeter:
    """Counts what one tier does.

    Args:
        tier: its name.
        meter: of this process.
    """

    def __init__(self, tier: str, meter: Meter | None = None) -> None:
        self.tier = tier
        self.meter = meter or Meter()

    def looked_up(self, *, found: bool) -> None:
        """A chunk was asked for; every such question is one hit or one miss."""
        self.meter.add(HITS if found else MISSES, 1, self.tier)

    def read(self, num_bytes: int, since_s: float) -> None:
        """Something was read, from `since_s` (by `time.perf_counter`) till now."""
        self._moved(READ, num_bytes, time.perf_counter() - since_s)

    def wrote(self, num_bytes: int, seconds: float) -> None:
        """A chunk was written."""
        self._moved(WRITE, num_bytes, seconds)

    def evicted(self, num: int = 1) -> None:
        """Chunks went for want of room."""
        if num:
            self.meter.add(EVICTIONS, num, self.tier)

    def found_corrupt(self) -> None:
        """A stored chunk failed a check."""
        self.meter.add(CORRUPT, 1, self.tier)

    def holds(self, more_bytes: int) -> None:
        """So much more is held than before; a tier of several stores holds what all of them do."""
        self.meter.shift(HELD, more_bytes, self.tier)

    def total(self, counter: Metric) -> int:
        """All that was ever counted in this tier."""
        return int(self.meter.total(counter, self.tier))

    def _moved(self, direction: str, num_bytes: int, seconds: float) -> None:
        self.meter.add(BYTES, num_bytes, self.tier, direction)
        self.meter.add(TIME, seconds, self.tier, direction)
