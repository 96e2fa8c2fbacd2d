"""A chat request that names a collection becomes one that holds its chunks."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from api.conversation import Message, has_system_role, lay_out, plain_messages, question_of
from api.library import Library
from api.options import RagOptions
from retriever.retrieve import prompt_order


class Retrieval:
    """Puts retrieved chunks into conversations.

    Args:
        library: the server's collections.
        tokenizer: the served model's.
    """

    def __init__(self, library: Library, tokenizer: Any) -> None:
        self.library = library
        self._system_role = has_system_role(tokenizer)

    async def messages(self, rag: RagOptions, asked: Iterable[Mapping[str, Any]]) -> list[Message]:
        """The conversation that is sent to the model.

        Args:
            asked: the conversation as the client sent it.

        Raises:
            FieldError: there is no question, or it is not text.
            UnknownCollection: the server does not have the collection.
        """
        messages = plain_messages(asked)
        prefix = self.library.prefix_of(rag.collection)
        # Embedding takes milliseconds of computing, which other requests need not wait for.
        hits = await asyncio.to_thread(self.library.search, rag.collection, question_of(messages), rag.top_k)
        texts = [hit.text for hit in prompt_order(hits)]
        return lay_out(messages, prefix, texts, system_role=self._system_role)
