"""What happened to a request, put into its answer: the `blend` object and the count of cached tokens."""

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from api.server.surface.request import UNREPORTED, EngineCall
from blend.report.stats import BlendStats

SourceOf = Callable[[str], str | None]
"""Name of the document that a chunk comes from, by the chunk's id; None for a chunk of no collection."""

TextsOf = Callable[[Sequence[int]], list[str]]
"""The text of each token of a prompt."""


class Edit(Protocol):
    """Edits the JSON of a stream's events.

    Attributes:
        is_due: False lets the next event pass unparsed.
    """

    @property
    def is_due(self) -> bool: ...

    def edit(self, data: dict[str, Any]) -> bool:
        """Edit an event in place; returns whether it changed."""


async def edited(events: AsyncGenerator[str, None], edits: Sequence[Edit]) -> AsyncGenerator[str, None]:
    """A stream's server-sent events, edited; an event that no edit changes passes byte for byte."""
    async with aclosing(events):
        async for event in events:
            due = [one for one in edits if one.is_due]
            yield _edited(event, due) if due else event


def _edited(event: str, edits: Sequence[Edit]) -> str:
    payload = event.removeprefix("data: ").strip()
    if not payload.startswith("{"):
        return event
    data = json.loads(payload)
    changed = [one.edit(data) for one in edits]
    if not any(changed):
        return event
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"


def blend_object(stats: BlendStats, source_of: SourceOf, texts: Sequence[str] = ()) -> dict[str, Any]:
    """The `blend` object of an answer.

    Args:
        texts: of the context tokens, where the request asked for details.

    >>> blend_object(BlendStats(fallback="no known chunk in the prompt"), {}.get)["fallback"]
    'no known chunk in the prompt'
    """
    chunks = [
        {"id": use.chunk_id, "source": source_of(use.chunk_id), "start": use.start, "tokens": use.num_tokens}
        for use in stats.chunks
    ]
    blend = {**stats.to_json(), "chunks": chunks}
    return blend if stats.tokens is None else {**blend, "tokens": {"texts": texts, **blend["tokens"]}}


class Reporter:
    """Puts the statistics of one request into its answer; implements `Edit` for a streamed one.

    Args:
        calls: the engine's, one for each prompt of the request, in their order.
        num_choices: choices for each prompt; in the answer, the choices of all prompts follow each other.
    """

    def __init__(
        self, calls: Sequence[EngineCall], num_choices: int, source_of: SourceOf, texts_of: TextsOf
    ) -> None:
        self._calls = calls
        self._num_choices = num_choices
        self._source_of = source_of
        self._texts_of = texts_of

    @property
    def is_due(self) -> bool:
        """Events are read from the first finished output on, so tokens pass untouched."""
        return any(call.stats is not None for call in self._calls)

    def edit(self, data: dict[str, Any]) -> bool:
        """Add statistics to events that end a choice, and to the event with the usage."""
        choices = data.get("choices")
        if choices:
            ended = [choice["index"] for choice in choices if choice.get("finish_reason") is not None]
            if not ended:
                return False
            data["blend"] = self._object(self._calls[ended[0] // self._num_choices])
        elif "usage" in data:
            data["blend"] = self.blend()
        else:
            return False  # an error
        if data.get("usage"):
            self.amend_usage(data["usage"])
        return True

    def blend(self) -> dict[str, Any] | list[dict[str, Any]]:
        """The answer's `blend`: an object, or a list of objects for a request of several prompts."""
        objects = [self._object(call) for call in self._calls]
        return objects if len(objects) > 1 else objects[0] if objects else self._object(None)

    def amend_usage(self, usage: dict[str, Any]) -> None:
        """Replace the count of cached tokens where a prompt was blended: recomputed tokens are not cached."""
        if any(call.stats is not None and call.stats.fallback is None for call in self._calls):
            details = usage.get("prompt_tokens_details") or {}
            total = sum(call.cached_tokens for call in self._calls)
            usage["prompt_tokens_details"] = {**details, "cached_tokens": total}

    def _object(self, call: EngineCall | None) -> dict[str, Any]:
        stats = (call and call.stats) or UNREPORTED
        texts = self._texts_of(call.context_ids) if call and stats.tokens is not None else ()
        return blend_object(stats, self._source_of, texts)
