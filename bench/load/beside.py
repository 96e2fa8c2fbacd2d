"""How smoothly one request decodes while another is blended, or prefilled, or nothing else goes on."""

import asyncio
import time
from dataclasses import dataclass
from itertools import pairwise

from bench.load.client import Call, LoadClient, Outcome
from blend.errors import EngineNotReady, RequestError

SETTLE_TOKENS = 16
"""Tokens that the decoding request has written before anything else happens."""


@dataclass(frozen=True, slots=True)
class Beside:
    """One observation.

    Attributes:
        itls_ms: inter-token latencies of the request that decodes, while the other waits for its first token;
            all of them where there is no other.
        ttft_ms: of the other, or None where there is none.
        was_blended: whether the other was.
    """

    itls_ms: tuple[float, ...]
    ttft_ms: float | None
    was_blended: bool


async def decode_beside(client: LoadClient, decoding: Call, other: Call | None) -> Beside:
    """Watch a long answer being written, and send another request meanwhile.

    Args:
        other: None: nothing disturbs.

    Raises:
        EngineNotReady: a request failed.
        RequestError: the long answer was too short to be beside the other one.
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
    beside = await client.answer(other, time.perf_counter()) if other and not long.done() else None
    written = _whole(await long)
    if other is None:
        return Beside(gaps_within(written.token_times_s[SETTLE_TOKENS - 1 :], 0.0, float("inf")), None, False)
    return _between(written, None if beside is None else _whole(beside))


def gaps_within(times_s: tuple[float, ...], begin_s: float, end_s: float) -> tuple[float, ...]:
    """Milliseconds from each time to the next, where any part of that lies between two moments.

    >>> gaps_within((0.0, 1.0, 2.0, 4.0, 5.0), 1.5, 3.0)
    (1000.0, 2000.0)
    """
    return tuple(
        (late - early) * 1e3 for early, late in pairwise(times_s) if late > begin_s and early < end_s
    )


def _between(written: Outcome, other: Outcome | None) -> Beside:
    if other is None or written.token_times_s[-1] < other.token_times_s[0]:
        raise RequestError(
            f"got a long answer of {len(written.token_times_s)} tokens that ended before the other request's "
            "first token, expected it to go on: give more --decode-tokens"
        )
    gaps = gaps_within(written.token_times_s, other.due_s, other.token_times_s[0])
    return Beside(gaps, other.ttft_ms, other.was_blended)


def _whole(outcome: Outcome) -> Outcome:
    if outcome.error is not None:
        raise EngineNotReady(f"a request failed: {outcome.error}")
    return outcome
