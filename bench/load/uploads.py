"""Files uploaded through OpenAI's client into a vector store, searched, cited, and deleted."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import openai

from blend.errors import EngineNotReady

POLL_S = 0.5
NEAR = 4
"""Chunks that an answer is given."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """Files in a vector store of their own.

    Attributes:
        file_ids: in the order of their texts.
        completed: files that were ingested.
        seconds: from the first upload until no file was in progress.
    """

    store_id: str
    file_ids: tuple[str, ...]
    completed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Deleted:
    """A file that was deleted.

    Attributes:
        was_cited: whether an answer to its own text cited it before.
        is_found: whether a search for its own text finds it afterwards.
        is_cited: whether an answer to its own text cites it afterwards.
    """

    was_cited: bool
    is_found: bool
    is_cited: bool


async def upload(client: openai.AsyncOpenAI, texts: Sequence[str], name: str) -> Uploaded:
    """Upload texts one by one into a new vector store, and wait until all are ingested.

    Raises:
        EngineNotReady: the server refused an upload.
    """
    begin_s = time.perf_counter()
    try:
        store = await client.vector_stores.create(name=name)
        file_ids = [await _put(client, store.id, f"{number}.md", text) for number, text in enumerate(texts)]
        while (counts := store.file_counts).in_progress or counts.total < len(texts):
            await asyncio.sleep(POLL_S)
            store = await client.vector_stores.retrieve(store.id)
    except openai.APIError as error:
        raise EngineNotReady(f"an upload failed: {error.message}") from error
    return Uploaded(store.id, tuple(file_ids), counts.completed, time.perf_counter() - begin_s)


async def _put(client: openai.AsyncOpenAI, store_id: str, name: str, text: str) -> str:
    file = await client.files.create(file=(name, text.encode()), purpose="user_data")
    await client.vector_stores.files.create(store_id, file_id=file.id)
    return file.id


async def found(client: openai.AsyncOpenAI, uploaded: Uploaded, texts: Sequence[str]) -> int:
    """How many of the files are the first that a search for their own text finds."""
    pairs = zip(uploaded.file_ids, texts, strict=True)
    return sum([await _files(client, uploaded.store_id, text, 1) == {key} for key, text in pairs])


async def delete(
    client: openai.AsyncOpenAI, model: str, uploaded: Uploaded, texts: Sequence[str], number: int
) -> Deleted:
    """Delete one file, and look for it right after in searches and answers.

    Args:
        number: of the file, from 0.
    """
    key, text = uploaded.file_ids[number], texts[number]
    was_cited = key in await _cited(client, model, uploaded.store_id, text)
    await client.files.delete(key)
    is_found = key in await _files(client, uploaded.store_id, text, 50)
    return Deleted(was_cited, is_found, key in await _cited(client, model, uploaded.store_id, text))


async def _files(client: openai.AsyncOpenAI, store_id: str, query: str, num: int) -> set[str]:
    hits = await client.vector_stores.search(store_id, query=query, max_num_results=num)
    return {hit.file_id for hit in hits.data}


async def _cited(client: openai.AsyncOpenAI, model: str, store_id: str, question: str) -> set[str]:
    tool: Any = {"type": "file_search", "vector_store_ids": [store_id], "max_num_results": NEAR}
    answer = await client.responses.create(model=model, input=question, tools=[tool], max_output_tokens=16)
    message: Any = answer.output[-1]
    return {citation.file_id for citation in message.content[0].annotations}
