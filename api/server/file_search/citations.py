"""Which files an answer's prompt held chunks of, as annotations of the answer."""

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Literal

from pydantic import BaseModel
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionResponse,
    ChatCompletionResponseChoice,
    ChatMessage,
)

from api.server.vector_stores.kept import MemberRecord


class CitedFile(BaseModel):
    """A file, and the index in the answer's text at which it is cited: the end, for all may rest on it."""

    file_id: str
    filename: str
    index: int


class FileCitation(BaseModel):
    """An annotation of a chat's message, in the shape of OpenAI's `url_citation`."""

    type: Literal["file_citation"] = "file_citation"
    file_citation: CitedFile


class CitedMessage(ChatMessage):
    """vLLM's message, whose annotations are as many as OpenAI has them."""

    annotations: list[FileCitation] | None = None  # type: ignore[assignment]


class CitedChoice(ChatCompletionResponseChoice):
    """A choice with such a message."""

    message: CitedMessage


class CitedAnswer(ChatCompletionResponse):
    """An answer with such choices."""

    choices: list[CitedChoice]  # type: ignore[assignment]


def citations(files: Sequence[MemberRecord], index: int) -> list[FileCitation]:
    """One of each file.

    Args:
        index: characters of the answer.
    """
    cited = [CitedFile(file_id=file.id, filename=file.filename, index=index) for file in files]
    return [FileCitation(file_citation=one) for one in cited]


def cited_answer(answer: ChatCompletionResponse, files: Sequence[MemberRecord]) -> CitedAnswer:
    """A chat's answer with citations in each message that has text."""
    cited = CitedAnswer.model_validate(answer.model_dump())
    for choice in cited.choices:
        if choice.message.content:
            choice.message.annotations = citations(files, len(choice.message.content))
    return cited


async def cited_events(
    events: AsyncGenerator[str, None], files: Sequence[MemberRecord]
) -> AsyncGenerator[str, None]:
    """A streamed chat's events, with citations in the delta that ends a choice with text."""
    lengths: dict[int, int] = {}
    async with aclosing(events):
        async for event in events:
            yield _cited(event, files, lengths)


def _cited(event: str, files: Sequence[MemberRecord], lengths: dict[int, int]) -> str:
    payload = event.removeprefix("data: ").strip()
    if not payload.startswith("{"):
        return event
    data: dict[str, Any] = json.loads(payload)
    ended = False
    for choice in data.get("choices") or ():
        index, delta = choice["index"], choice["delta"]
        lengths[index] = lengths.get(index, 0) + len(delta.get("content") or "")
        if choice.get("finish_reason") is not None and lengths[index]:
            delta["annotations"] = [one.model_dump() for one in citations(files, lengths[index])]
            ended = True
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n" if ended else event
