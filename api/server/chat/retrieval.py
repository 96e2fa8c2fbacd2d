"""A chat request that names a collection becomes one that holds its chunks."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from api.server.chat.conversation import Message, has_system_role, lay_out, plain_messages, question_of
from api.server.chat.options import RagOptions, rag_error
from api.server.collections.library import Library
from api.server.surface.record import retrieving
from blend.text.token_texts import token_texts
from retriever.errors import QueryError
from retriever.retrieve import Hit


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
        """What each token reads as; see `blend.text.token_texts`. About a microsecond a token."""
        return token_texts(self._tokenizer, token_ids)

    async def messages(self, rag: RagOptions, asked: Iterable[Mapping[str, Any]]) -> list[Message]:
        """The conversation that is sent to the model.

        Args:
            asked: the conversation as the client sent it.

        Raises:
            FieldError: there is no question, it is not text, or an option of the search is wrong.
            UnknownCollection: the server does not have the collection.
        """
        messages = plain_messages(asked)
        prefix = self.library.prefix_of(rag.collection)
        with retrieving():
            # Embedding takes milliseconds of computing, which other requests need not wait for.
            hits = await asyncio.to_thread(find, self.library, rag, question_of(messages))
        return self.lay_out(messages, prefix, [hit.text for hit in hits])

    def lay_out(self, messages: Sequence[Message], prefix: str, texts: Sequence[str]) -> list[Message]:
        """A conversation with chunks in it, behind their prefix (`conversation.lay_out`)."""
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
