"""The `file_search` tool: a conversation becomes one that holds chunks found in vector stores."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from api.server.chat.retrieval import Message, Retrieval, plain_messages, question_of
from api.server.errors import NotThere
from api.server.file_search.tool import FileSearchTool
from api.server.surface.request import retrieving
from api.server.vector_stores.kept import MemberRecord
from api.server.vector_stores.search import StoreHit, check_prefixes, least_score_of, search, search_of
from api.server.vector_stores.stores import VectorStores
from retriever.config import DEFAULTS

ANSWER_SHARE = 4
"""Share of the context that is reserved for an answer without a limit: one quarter."""
MARGIN_TOKENS = 64
"""Maximum tokens that the chat template adds around and between messages."""


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a search for a conversation.

    Attributes:
        question: the query.
        hits: best first.
        messages: the conversation with the hits in it, the best next to the question.
    """

    question: str
    hits: tuple[StoreHit, ...]
    messages: list[Message]

    @property
    def files(self) -> list[MemberRecord]:
        """The files of the hits, best first."""
        return list({hit.member.id: hit.member for hit in self.hits}.values())

    @property
    def sources(self) -> dict[str, str]:
        """Names of files by the ids of their chunks."""
        return {hit.hit.chunk_id: hit.member.filename for hit in self.hits}


class FileSearch:
    """Searches vector stores for the questions of conversations.

    Args:
        tokenizer: the served model's.
        max_model_len: maximum tokens of a prompt and its answer.
    """

    def __init__(
        self, stores: VectorStores, retrieval: Retrieval, tokenizer: Any, max_model_len: int
    ) -> None:
        self._stores = stores
        self._retrieval = retrieval
        self._tokenizer = tokenizer
        self._max_model_len = max_model_len

    async def find(
        self,
        tool: FileSearchTool,
        asked: Iterable[Mapping[str, Any]],
        namespace: str,
        answer_tokens: int | None,
    ) -> Found:
        """Search for the question of a conversation, and lay the hits out in it.

        Only hits that fit into the model's context, beside the conversation and its answer, are taken.

        Args:
            asked: the conversation as the client sent it.
            answer_tokens: maximum tokens of the answer; None for no limit.

        Raises:
            FieldError: there is no question, the vector stores' prefixes differ, or a store has expired.
            NotThere: no such vector store.
            QueryError: not a valid filter.
        """
        messages = plain_messages(asked)
        question = question_of(messages)
        findable = await self._findable(tool, namespace)
        prefix = await asyncio.to_thread(self._prefix, list(findable))
        room = self._room(messages, prefix, answer_tokens)  # not on a thread: a tokenizer is not thread-safe
        options = replace(search_of(tool, DEFAULTS.top_k, "tools.file_search."), max_tokens=max(room, 1))
        with retrieving():
            hits = await asyncio.to_thread(
                search, self._stores.library, findable, [question], options, least_score_of(tool)
            )
        texts = [one.hit.text for one in reversed(hits)]
        return Found(question, tuple(hits), self._retrieval.lay_out(messages, prefix, texts))

    async def _findable(self, tool: FileSearchTool, namespace: str) -> dict[str, dict[str, MemberRecord]]:
        findable: dict[str, dict[str, MemberRecord]] = {}
        for store_id in tool.vector_store_ids:
            try:
                record = await self._stores.get(store_id, namespace)
            except NotThere as error:
                raise NotThere(f"tools.file_search.vector_store_ids: {error}") from None
            await self._stores.used(record)
            findable[record.id] = await self._stores.members.findable(record)
        return findable

    def _prefix(self, store_ids: Sequence[str]) -> str:
        return check_prefixes({key: self._stores.library.retriever(key) for key in store_ids})

    def _room(self, messages: Sequence[Message], prefix: str, answer_tokens: int | None) -> int:
        texts = [prefix, *(str(message.get("content") or "") for message in messages)]
        spent = sum(len(self._tokenizer.encode(text)) for text in texts)
        answer = self._max_model_len // ANSWER_SHARE if answer_tokens is None else answer_tokens
        return self._max_model_len - spent - answer - MARGIN_TOKENS
