"""How smoothly one request decodes while another is blended, or prefilled, or while it is alone."""

import asyncio
import time
from dataclasses import dataclass
from itertools import pairwise

from bench.load.client import Call, LoadClient, Outcome
from blend.errors import EngineNotReady, RequestError

SETTLE_TOKENS = 16
"""Tokens that the decoding request has written before the other one is sent."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One request that decodes, watched once.

    Attributes:
        itls_ms: its inter-token latencies while the other request waits for its first token; all of them
            where there is no other.
        ttft_ms: of the other request, or None where there is none.
        was_blended: whether the other one was.
    """

    itls_ms: tuple[float, ...]
    ttft_ms: float | None
    was_blended: bool


async def watch_decoding(client: LoadClient, decoding: Call, other: Call | None) -> Observation:
    """Stream a long answer, and send another request meanwhile.

    Args:
        other: None sends nothing.

    Raises:
        EngineNotReady: a request failed.
        RequestError: the long answer ended before the other one began.
    """
    settled = asyncio.Event()

    def on_token(num: int) -> None:
        if num >= SETTLE_TOKENS:
            settled.set()

    long = asyncio.create_task(client.answer(decoding, time.perf_counter(), on_token))
    waiting = asyncio.create_task(settled.wait())
    # It may fail before it has settled.
    await asyncio.wait((long, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    answered = await client.answer(other, time.perf_counter()) if other and not long.done() else None
    written = _complete(await long)
    if other is None:
        gaps = gaps_within(written.token_times_s[SETTLE_TOKENS - 1 :], 0.0, float("inf"))
        return Observation(gaps, None, False)
    return _during(written, None if answered is None else _complete(answered))


def gaps_within(times_s: tuple[float, ...], begin_s: float, end_s: float) -> tuple[float, ...]:
    """Milliseconds from each time to the next, where they overlap an interval.

    >>> gaps_within((0.0, 1.0, 2.0, 4.0, 5.0), 1.5, 3.0)
    (1000.0, 2000.0)
    """
    return tuple(
        (late - early) * 1e3 for early, late in pairwise(times_s) if late > begin_s and early < end_s
    )


def _during(written: Outcome, other: Outcome | None) -> Observation:
    if other is None or written.token_times_s[-1] < other.token_times_s[0]:
        raise RequestError(
            f"got a long answer of {len(written.token_times_s)} tokens that ended before the other request's "
            "first token, expected it to go on: give more --decode-tokens"
        )
    gaps = gaps_within(written.token_times_s, other.due_s, other.token_times_s[0])
    return Observation(gaps, other.ttft_ms, other.was_blended)


def _complete(outcome: Outcome) -> Outcome:
    if outcome.error is not None:
        raise EngineNotReady(f"a request failed: {outcome.error}")
    return outcome
