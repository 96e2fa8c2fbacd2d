"""Milliseconds of a blend by stage."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Clock:
    """Milliseconds by stage."""

    ms: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("load", "realign", "select", "recompute", "write"), 0.0)
    )

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.ms[stage] += (time.perf_counter() - begin) * 1e3
