"""How smoothly a client's chats are answered, one after the other, alone or during other work."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from bench.load.client import Call, LoadClient

QUESTIONS = ("Tell a long story about a lighthouse.", "Explain how rain forms.", "Describe a market day.")

Done = TypeVar("Done")


@dataclass(frozen=True, slots=True)
class Chats:
    """Chats of one client, one after the other.

    Attributes:
        itls_ms: times between tokens.
        ttfts_ms: times to first token.
        failed: why chats were not finished.
        seconds: from the first chat to the end of the last one.
    """

    itls_ms: tuple[float, ...]
    ttfts_ms: tuple[float, ...]
    failed: tuple[str, ...]
    seconds: float

    def percentile_ms(self, percent: float) -> float:
        """Of the times between tokens."""
        return float(np.percentile(self.itls_ms, percent))


async def chats_alone(client: LoadClient, num_chats: int, tokens: int) -> Chats:
    """So many chats, without other work."""
    left = iter(range(num_chats))
    return await _chats(client, tokens, lambda: next(left, None) is not None)


async def chats_during(
    client: LoadClient, other: Coroutine[Any, Any, Done], tokens: int
) -> tuple[Chats, Done]:
    """Start other work, chat until it is done; returns both results.

    Raises:
        Exception: whatever the other work raises.
    """
    going = asyncio.create_task(other)
    chats = await _chats(client, tokens, lambda: not going.done())
    return chats, await going


async def _chats(client: LoadClient, tokens: int, goes_on: Callable[[], bool]) -> Chats:
    begin_s = time.perf_counter()
    itls_ms: list[float] = []
    ttfts_ms: list[float] = []
    failed: list[str] = []
    number = 0
    while goes_on():
        question = {"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}
        number += 1
        call = Call([question], False, f"chat {begin_s} {number}", tokens)
        outcome = await client.answer(call, time.perf_counter())
        if outcome.error is not None:
            failed.append(outcome.error)
            continue
        itls_ms += [(late - early) * 1e3 for early, late in pairwise(outcome.token_times_s)]
        ttfts_ms.append(outcome.ttft_ms or 0.0)
    return Chats(tuple(itls_ms), tuple(ttfts_ms), tuple(failed), time.perf_counter() - begin_s)
