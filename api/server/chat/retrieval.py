"""A chat that names a collection becomes a chat that holds chunks of it.

The chunks stand behind the collection's prefix and before everything that was said: the layout of
`blend.text.frame`, as messages, so that vLLM renders them with its own template options and tools. Rendered,
they begin with the very head behind which the chunks were computed.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from api.server.chat.options import RagOptions, rag_error
from api.server.collections.library import Library
from api.server.errors import FieldError
from api.server.surface.request import retrieving
from blend.text.frame import SEPARATOR, ChatFrame
from blend.text.token_texts import token_texts
from retriever.errors import QueryError
from retriever.retrieve import Hit

Message = dict[str, Any]
"""A message as OpenAI's chat API has it."""

_SYSTEM_ROLES = ("system", "developer")


@dataclass(frozen=True, slots=True)
class LaidOut:
    """A conversation with chunks in it.

    Attributes:
        messages: with the chunks at the start of the first user message.
        sources: names of documents by the ids of their chunks, where the library does not know them.
        files: None; a search of vector stores has files to cite.
    """

    messages: list[Message]
    sources: Mapping[str, str]
    files: None = None


class Retrieval:
    """Puts retrieved chunks into conversations.

    Args:
        library: the server's collections.
        tokenizer: the served model's.
    """

    def __init__(self, library: Library, tokenizer: Any) -> None:
        self.library = library
        self._tokenizer = tokenizer
        self._system_role = has_system_role(tokenizer)

    def texts_of(self, token_ids: Sequence[int]) -> list[str]:
        """The text of each token; see `blend.text.token_texts`. Takes about a microsecond a token."""
        return token_texts(self._tokenizer, token_ids)

    async def lay_out_found(self, rag: RagOptions, asked: Iterable[Mapping[str, Any]]) -> LaidOut:
        """Search for the question of a conversation, and lay the found chunks out in it.

        Args:
            asked: the conversation as the client sent it.

        Raises:
            FieldError: there is no question, it is not text, or an option of the search is wrong.
            UnknownCollection: the server does not have the collection.
        """
        messages = plain_messages(asked)
        prefix = self.library.prefix_of(rag.collection)
        with retrieving():
            # Embedding takes milliseconds of computing; on a thread it does not hold up other requests.
            hits = await asyncio.to_thread(find, self.library, rag, question_of(messages))
        return LaidOut(self.lay_out(messages, prefix, [hit.text for hit in hits]), {})

    def lay_out(self, messages: Sequence[Message], prefix: str, texts: Sequence[str]) -> list[Message]:
        """A conversation with chunks in it, behind their prefix; see the function `lay_out`."""
        return lay_out(messages, prefix, texts, system_role=self._system_role)


def find(library: Library, rag: RagOptions, question: str) -> list[Hit]:
    """The chunks that a request asks for, in the order in which they stand in its prompt.

    Raises:
        UnknownCollection: the library does not have the collection.
        FieldError: an option of the search is wrong.
        QueryError: the question is blank.
    """
    try:
        if rag.chunk_ids is not None:
            return library.choose(rag.collection, rag.chunk_ids)
        return library.search(rag.collection, question, rag.search())
    except QueryError as error:
        raise rag_error(error) from None


def has_system_role(tokenizer: Any) -> bool:
    """Whether a prefix goes into a system message; otherwise it opens the first user message.

    Args:
        tokenizer: a Hugging Face tokenizer. Without a chat template the result is irrelevant: vLLM refuses
            to chat.
    """
    if tokenizer.chat_template is None:
        return True
    turns = [{"role": "system", "content": "prefix"}, {"role": "user", "content": "documents"}]
    try:
        rendered = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    except TemplateError:
        return False
    return bool(rendered.startswith(ChatFrame(tokenizer).head("prefix") + "documents"))


def plain_messages(messages: Iterable[Mapping[str, Any]]) -> list[Message]:
    """Messages whose text is one string; the parts of a message's content may be readable only once.

    Raises:
        FieldError: a system or user message holds more than text.
    """
    return [
        {**message, "content": _text(message, number)}
        if message["role"] in ("user", *_SYSTEM_ROLES)
        else {**message}
        for number, message in enumerate(messages)
    ]


def question_of(messages: Sequence[Message]) -> str:
    """Text of the last user message, which is the query of the search.

    Raises:
        FieldError: there is none, or it is blank.

    >>> question_of([{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}])
    'Why?'
    """
    asked = [message["content"] for message in messages if message["role"] == "user"]
    if not asked or not asked[-1].strip():
        raise FieldError(
            "messages: got an empty question, expected text in the last user message", "messages"
        )
    question: str = asked[-1]
    return question


def lay_out(
    messages: Sequence[Message], prefix: str, texts: Sequence[str], *, system_role: bool
) -> list[Message]:
    """The conversation with the chunks at the start of its first user message.

    Args:
        messages: with plain text, see `plain_messages`. Their system text goes behind the chunks, since the
            prefix takes the place of a system message.
        prefix: the collection's; may be empty.
        texts: of the chunks, in order.
        system_role: see `has_system_role`.

    >>> lay_out([{"role": "user", "content": "Why?"}], "Read.", ["A.", "B."], system_role=False)
    [{'role': 'user', 'content': 'Read.\\n\\nA.\\n\\nB.\\n\\nWhy?'}]
    """
    system_texts = [message["content"] for message in messages if message["role"] in _SYSTEM_ROLES]
    turns = [message for message in messages if message["role"] not in _SYSTEM_ROLES]
    if turns[0]["role"] != "user":
        turns.insert(0, {"role": "user", "content": ""})
    first, *rest = turns
    parts = ["" if system_role else prefix, *texts, *system_texts, first["content"]]
    content = SEPARATOR.join(part for part in parts if part)
    system = [{"role": "system", "content": prefix}] if system_role and prefix else []
    return [*system, {**first, "content": content}, *rest]


def _text(message: Mapping[str, Any], number: int) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    parts = [part if isinstance(part, dict) else {"type": "text", "text": part} for part in content]
    if any(part.get("type") != "text" for part in parts):
        field = f"messages.{number}.content"
        raise FieldError(f"{field}: got more than text, which cannot be answered from a collection", field)
    return "\n".join(str(part["text"]) for part in parts)
