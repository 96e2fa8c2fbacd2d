"""Which files an answer's prompt holds chunks of, as annotations of a chat's answer.

The model does not report which chunks it used, so every retrieved file is cited, at the end of the text.
"""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionResponse,
    ChatCompletionResponseChoice,
    ChatMessage,
)

from api.server.vector_stores.kept import MemberRecord


class CitedFile(BaseModel):
    """A file, and the index in the answer's text at which it is cited."""

    file_id: str
    filename: str
    index: int


class FileCitation(BaseModel):
    """An annotation of a chat's message, in the shape of OpenAI's `url_citation`."""

    type: Literal["file_citation"] = "file_citation"
    file_citation: CitedFile


class CitedMessage(ChatMessage):
    """vLLM's message with a list of annotations, as OpenAI has it."""

    annotations: list[FileCitation] | None = None  # type: ignore[assignment]


class CitedChoice(ChatCompletionResponseChoice):
    """A choice with such a message."""

    message: CitedMessage


class CitedAnswer(ChatCompletionResponse):
    """An answer with such choices."""

    choices: list[CitedChoice]  # type: ignore[assignment]


class Citations:
    """Cites files in one chat's answer; implements `api.server.chat.report.Edit` for a streamed one."""

    is_due = True  # every event is read, since the citations' index is the length of the text

    def __init__(self, files: Sequence[MemberRecord]) -> None:
        self._files = files
        self._lengths: dict[int, int] = {}

    def cited(self, answer: ChatCompletionResponse) -> CitedAnswer:
        """An answer with citations in each message that has text."""
        cited = CitedAnswer.model_validate(answer.model_dump())
        for choice in cited.choices:
            if choice.message.content:
                choice.message.annotations = self._at(len(choice.message.content))
        return cited

    def edit(self, data: dict[str, Any]) -> bool:
        """Add citations to the delta that ends a choice with text."""
        is_changed = False
        for choice in data.get("choices") or ():
            index, delta = choice["index"], choice["delta"]
            length = self._lengths[index] = self._lengths.get(index, 0) + len(delta.get("content") or "")
            if choice.get("finish_reason") is not None and length:
                delta["annotations"] = [one.model_dump() for one in self._at(length)]
                is_changed = True
        return is_changed

    def _at(self, index: int) -> list[FileCitation]:
        cited = [CitedFile(file_id=file.id, filename=file.filename, index=index) for file in self._files]
        return [FileCitation(file_citation=one) for one in cited]
