"""An open loop: requests are sent when they are due, whether earlier ones are answered or not."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from bench.load.client import Outcome
from bench.load.workload import Arrival

LEAD_S = 0.05
"""Time between the preparation and the earliest arrival."""

Send = Callable[[Arrival, float], Awaitable[Outcome]]
"""Sends a request and waits for its answer, given when it was due on the clock of `time.perf_counter`."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One run of an open loop.

    Attributes:
        begin_s: start of the schedule, on the clock of `time.perf_counter`.
        outcomes: in the order of the arrivals.
    """

    begin_s: float
    arrivals: tuple[Arrival, ...]
    outcomes: tuple[Outcome, ...]

    @property
    def seconds(self) -> float:
        """From the start to the end of the last answer."""
        return max((one.end_s for one in self.outcomes), default=self.begin_s) - self.begin_s


async def open_loop(arrivals: Sequence[Arrival], send: Send) -> Phase:
    """Send requests on their schedule, and wait for all answers.

    A request that is sent late, since its sender was busy, still counts from when it was due.
    """
    begin_s = time.perf_counter() + LEAD_S

    async def one(arrival: Arrival) -> Outcome:
        due_s = begin_s + arrival.at_s
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        return await send(arrival, due_s)

    outcomes = await asyncio.gather(*map(one, arrivals))
    return Phase(begin_s, tuple(arrivals), tuple(outcomes))
