"""A chat request with `documents` becomes a conversation that holds their chunks."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from api.server.chat.retrieval import LaidOut, has_system_role, lay_out, plain_messages, question_of
from api.server.chat_documents.forms import ChatDocument, given_documents
from api.server.chat_documents.learning import Learning
from api.server.errors import FieldError
from api.server.settings import ServeConfig
from precompute.config import DEFAULTS

_FORMS = TypeAdapter(list[str | ChatDocument])


class ChatDocuments:
    """Puts the documents of chat requests into their conversations, in the place of retrieved chunks.

    They stand behind the default prefix of collections, behind which they are precomputed.

    Args:
        tokenizer: the served model's.
    """

    def __init__(self, learning: Learning, tokenizer: Any, settings: ServeConfig) -> None:
        self._learning = learning
        self._system_role = has_system_role(tokenizer)
        self._settings = settings

    async def lay_out(self, documents: Sequence[Any], asked: Iterable[Mapping[str, Any]]) -> LaidOut:
        """The conversation with the documents' chunks in it, in the documents' order.

        Args:
            documents: in any form of `api.server.chat_documents.forms`.
            asked: the conversation as the client sent it.

        Raises:
            FieldError: a document has no text, the documents exceed a limit, or there is no question.
        """
        messages = plain_messages(asked)
        question_of(messages)
        given = given_documents(
            _read(documents),
            max_documents=self._settings.max_chat_documents,
            max_chars=self._settings.max_chat_chars,
        )
        chunks = await self._learning.chunks(given)
        texts = [chunk.text for of_one in chunks for chunk in of_one]
        sources = {
            chunk.chunk_id: document.source
            for document, of_one in zip(given, chunks, strict=True)
            for chunk in of_one
        }
        return LaidOut(lay_out(messages, DEFAULTS.prefix, texts, system_role=self._system_role), sources)


def _read(documents: Sequence[Any]) -> list[str | ChatDocument]:
    try:
        return _FORMS.validate_python(list(documents))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = f"documents.{first['loc'][0]}"
        raise FieldError(f"{field}: expected a string, or an object with `text` or `data`", field) from None
