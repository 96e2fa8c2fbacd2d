"""How smoothly a client's chats are answered while another one uploads documents."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import httpx
import numpy as np

from api.load.client import Call, LoadClient
from blend.errors import EngineNotReady

POLL_S = 0.25
QUESTIONS = ("Tell a long story about a lighthouse.", "Explain how rain forms.", "Describe a market day.")


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


@dataclass(frozen=True, slots=True)
class Uploaded:
    """Uploads, and the chats meanwhile.

    Attributes:
        upload_s: until every document was taken in.
        completed: documents that were, of `documents`.
    """

    chats: Chats
    documents: int
    completed: int
    upload_s: float


async def chats_alone(client: LoadClient, num_chats: int, tokens: int) -> Chats:
    """So many chats, and nothing else goes on."""
    left = iter(range(num_chats))
    return await _chats(client, tokens, lambda: next(left, None) is not None)


async def chats_beside(client: LoadClient, texts: Sequence[str], collection: str, tokens: int) -> Uploaded:
    """Chats until all texts, uploaded one by one as documents of a new collection, are taken in.

    Raises:
        EngineNotReady: the server did not take one.
    """
    uploading = asyncio.create_task(upload(client.url, texts, collection))
    chats = await _chats(client, tokens, lambda: not uploading.done())
    completed, seconds = await uploading
    return Uploaded(chats, len(texts), completed, seconds)


async def upload(url: str, texts: Sequence[str], collection: str) -> tuple[int, float]:
    """Upload texts one by one as documents of a new collection; how many were taken in, and in what time.

    Raises:
        EngineNotReady: the server did not take one.
    """
    begin_s = time.perf_counter()
    async with httpx.AsyncClient(base_url=url, timeout=120) as http:
        await _send(http, "POST", "/collections", json={"name": collection})
        for number, text in enumerate(texts):
            await _send(
                http, "PUT", f"/collections/{collection}/documents/{number}.md", content=text.encode()
            )
        while True:
            jobs = (await http.get(f"/collections/{collection}/jobs")).json()["data"]
            if all(job["status"] in ("completed", "failed") for job in jobs):
                break
            await asyncio.sleep(POLL_S)
    completed = sum(status == "completed" for job in jobs for status in job["documents"].values())
    return completed, time.perf_counter() - begin_s


async def _send(http: httpx.AsyncClient, method: str, path: str, **options: object) -> None:
    answer = await http.request(method, path, **options)  # type: ignore[arg-type]
    if answer.is_error:
        raise EngineNotReady(f"the server answered {answer.status_code} to an upload: {answer.text[:200]}")


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
