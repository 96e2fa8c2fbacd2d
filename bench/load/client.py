"""One streamed answer over HTTP, and the arrival time of each token."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import openai

from api.server.chat.retrieval import Message
from api.server.surface.keys import own_key
from blend.errors import EngineNotReady


@dataclass(frozen=True, slots=True)
class Call:
    """A request to be sent.

    Attributes:
        blend: False asks for a full prefill of the same prompt.
        cache_salt: requests of different salts share nothing in the engine's prefix cache.
        max_tokens: of the answer, which has as many: the end of a text does not end it.
    """

    messages: Sequence[Message]
    blend: bool
    cache_salt: str
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a request; times are of `time.perf_counter`.

    Attributes:
        due_s: when it was to be sent.
        token_times_s: arrival of each piece of the answer; usually a token, since a server joins tokens only
            for a client that reads too slowly.
        end_s: when the answer or the error was complete.
        output_tokens: as the server counts them.
        blend: the answer's `blend` object, or None when there was none.
        error: why the answer is incomplete, or None.
    """

    due_s: float
    token_times_s: tuple[float, ...]
    end_s: float
    output_tokens: int = 0
    blend: dict[str, Any] | None = None
    error: str | None = None

    @property
    def ttft_ms(self) -> float | None:
        """From when it was due to the first token."""
        return (self.token_times_s[0] - self.due_s) * 1e3 if self.token_times_s else None

    @property
    def was_blended(self) -> bool:
        return self.blend is not None and self.blend["fallback"] is None


class LoadClient:
    """Sends requests to a server; use as an asynchronous context manager.

    Args:
        url: the server's base URL, with or without `/v1`.
        timeout_s: for a whole answer, from when its request was due.

    Attributes:
        sdk: OpenAI's client to that server, while the block runs.
        model: the served model's name, then too.
    """

    sdk: openai.AsyncOpenAI
    model: str

    def __init__(self, url: str, timeout_s: float) -> None:
        self.url = url.rstrip("/").removesuffix("/v1") + "/v1"
        self._timeout_s = timeout_s
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "LoadClient":
        client = openai.AsyncOpenAI(
            base_url=self.url, api_key=own_key(), max_retries=0, timeout=self._timeout_s
        )
        self.sdk = await self._stack.enter_async_context(client)
        try:
            self.model = (await self.sdk.models.list()).data[0].id
        except openai.APIError as error:
            await self._stack.aclose()
            raise EngineNotReady(f"no model at {self.url} ({error.message}): is the server up?") from None
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()

    async def answer(
        self, call: Call, due_s: float, on_token: Callable[[int], None] = lambda num: None
    ) -> Outcome:
        """Send a request and read its answer; an error is part of the outcome.

        Args:
            on_token: called at each piece with the number of pieces.
        """
        reading = _Reading(due_s, on_token)
        try:
            async with asyncio.timeout(due_s + self._timeout_s - time.perf_counter()):
                await reading.read(await self._send(call))
        except TimeoutError:
            return reading.outcome(f"no whole answer within {self._timeout_s:g} s")
        except (openai.APIError, httpx.HTTPError) as error:
            return reading.outcome(f"{type(error).__name__}: {error.__cause__ or error}")
        return reading.outcome(None if reading.times_s else "the answer had no token")

    async def _send(self, call: Call) -> Any:
        messages: Any = call.messages
        return await self.sdk.chat.completions.create(
            model=self.model,
            messages=messages,
            max_tokens=call.max_tokens,
            temperature=0.0,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={
                "ignore_eos": True,
                "cache_salt": call.cache_salt,
                "blend": {"enabled": call.blend},
            },
        )


class _Reading:
    """An answer that is being read."""

    def __init__(self, due_s: float, on_token: Callable[[int], None]) -> None:
        self._due_s = due_s
        self._on_token = on_token
        self.times_s: list[float] = []
        self._output_tokens = 0
        self._blend: dict[str, Any] | None = None

    async def read(self, stream: Any) -> None:
        async with stream:
            async for event in stream:
                if _has_token(event):
                    self.times_s.append(time.perf_counter())
                    self._on_token(len(self.times_s))
                self._blend = (event.model_extra or {}).get("blend") or self._blend
                if event.usage is not None:
                    self._output_tokens = event.usage.completion_tokens

    def outcome(self, error: str | None) -> Outcome:
        end_s = time.perf_counter()
        return Outcome(self._due_s, tuple(self.times_s), end_s, self._output_tokens, self._blend, error)


def _has_token(event: Any) -> bool:
    """Whether an event of a stream holds a token; the first event may only open the answer."""
    if not event.choices:
        return False
    delta = event.choices[0].delta
    # A token may be no text as yet: a part of a character.
    return bool(delta.content) or (delta.content is not None and delta.role is None)
