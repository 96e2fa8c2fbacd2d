"""What happened to a request, put into its answer."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

from blend.report.stats import BlendStats
from blend.vllm.request_params import KEY

SourceOf = Callable[[str], str | None]
"""Where a chunk comes from, by its id; None for one that belongs to no collection of this server."""

TextsOf = Callable[[Sequence[int]], list[str]]
"""What each token of a prompt reads as."""

UNREPORTED = BlendStats(fallback="the engine reported nothing about this request")


class EngineOutput(Protocol):
    """The part of vLLM's `RequestOutput` that is read here."""

    kv_transfer_params: Mapping[str, Any] | None
    num_cached_tokens: int | None
    prompt_token_ids: Sequence[int] | None
    outputs: list[Any]


Output = TypeVar("Output", bound=EngineOutput)


def stats_of(output: EngineOutput) -> BlendStats:
    """Statistics that came with a finished output."""
    return stats_in(output.kv_transfer_params)


def stats_in(params: Mapping[str, Any] | None) -> BlendStats:
    """Statistics in the parameters that a connector gave back."""
    ours = (params or {}).get(KEY)
    return UNREPORTED if ours is None else BlendStats.from_json(ours)


def blend_object(stats: BlendStats, source_of: SourceOf, texts: Sequence[str] = ()) -> dict[str, Any]:
    """The `blend` object of an answer.

    Args:
        texts: of the context tokens, where the request asked what became of each.

    >>> blend_object(BlendStats(fallback="no known chunk in the prompt"), {}.get)["fallback"]
    'no known chunk in the prompt'
    """
    chunks = [
        {"id": use.chunk_id, "source": source_of(use.chunk_id), "start": use.start, "tokens": use.num_tokens}
        for use in stats.chunks
    ]
    said = {**stats.to_json(), "chunks": chunks}
    return said if stats.tokens is None else {**said, "tokens": {"texts": texts, **said["tokens"]}}


class Reporter:
    """Watches the engine's outputs for one request and puts their statistics into its answer.

    Args:
        num_choices: choices per prompt; a request may hold several prompts, whose choices follow each
            other in the answer.
        source_of: where a chunk comes from.
        texts_of: what tokens read as; asked for requests that ask for it.
    """

    def __init__(self, num_choices: int, source_of: SourceOf, texts_of: TextsOf) -> None:
        self._num_choices = num_choices
        self._source_of = source_of
        self._texts_of = texts_of
        self._texts: dict[int, list[str]] = {}
        self._stats: dict[int, BlendStats] = {}
        self._cached_tokens: dict[int, int] = {}

    def take(self, prompt: int, output: EngineOutput) -> None:
        """Keep the statistics of a finished output of the request's prompt of that number."""
        if any(part.finish_reason is not None for part in output.outputs):
            stats = self._stats[prompt] = stats_of(output)
            if stats.tokens is not None and output.prompt_token_ids is not None:
                self._texts[prompt] = self._texts_of(output.prompt_token_ids[: stats.context_tokens])
            blended = stats.fallback is None
            self._cached_tokens[prompt] = (
                stats.counts.cached_tokens if blended else output.num_cached_tokens or 0
            )

    async def watch(self, outputs: AsyncGenerator[Output, None]) -> AsyncIterator[Output]:
        """The outputs of a request of one prompt, unchanged; they are closed when this is closed."""
        async with aclosing(outputs):
            async for output in outputs:
                self.take(0, output)
                yield output

    async def watch_many(
        self, outputs: AsyncGenerator[tuple[int, Output], None]
    ) -> AsyncIterator[tuple[int, Output]]:
        """The same for a request of several prompts."""
        async with aclosing(outputs):
            async for prompt, output in outputs:
                self.take(prompt, output)
                yield prompt, output

    async def annotate(self, events: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
        """A stream's events, with statistics in those that end a choice and in the one with the usage.

        Only events that follow a finished output are looked into, so tokens pass untouched.
        """
        async with aclosing(events):
            async for event in events:
                yield self._annotated(event) if self._stats else event

    def _annotated(self, event: str) -> str:
        payload = event.removeprefix("data: ").strip()
        if not payload.startswith("{"):
            return event
        data = json.loads(payload)
        choices = data.get("choices")
        if choices:
            ended = [choice["index"] for choice in choices if choice.get("finish_reason") is not None]
            if not ended:
                return event
            data["blend"] = self._object(ended[0] // self._num_choices)
        elif "usage" in data:
            data["blend"] = self.blend()
        else:
            return event  # an error
        if data.get("usage"):
            self.amend_usage(data["usage"])
        return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"

    def _object(self, prompt: int) -> dict[str, Any]:
        texts = self._texts.get(prompt, [])
        return blend_object(self._stats.get(prompt, UNREPORTED), self._source_of, texts)

    def blend(self) -> dict[str, Any] | list[dict[str, Any]]:
        """The answer's `blend`: an object, or a list of them for a request of several prompts."""
        objects = [self._object(prompt) for prompt in sorted(self._stats)] or [self._object(0)]
        return objects[0] if len(objects) == 1 else objects

    def amend_usage(self, usage: dict[str, Any]) -> None:
        """Replace the count of cached tokens where something was blended: recomputed ones are not cached."""
        if any(stats.fallback is None for stats in self._stats.values()):
            details = usage.get("prompt_tokens_details") or {}
            total = sum(self._cached_tokens.values())
            usage["prompt_tokens_details"] = {**details, "cached_tokens": total}
