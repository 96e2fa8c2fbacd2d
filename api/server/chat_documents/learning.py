"""Chunks of documents in chat requests: recognised in prompts at once, precomputed in the background."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from api.server.chat_documents.forms import GivenDocument
from api.server.chat_documents.learned import LearnedTexts
from api.server.collections.library import Library
from api.server.errors import FieldError
from api.server.ingest.runs import Runs
from api.server.ingest.worker import Worker
from api.server.surface.request import namespace_in_force
from precompute.config import DEFAULTS
from precompute.engine import ChunkEngine
from precompute.splitter import split

logger = logging.getLogger(__name__)

REMEMBERED_DOCUMENTS = 256
"""Size of the cache of documents that need not be split again."""


@dataclass(frozen=True, slots=True)
class GivenChunk:
    """A chunk of a document of a request."""

    chunk_id: str
    text: str


class Learning:
    """Splits documents of chat requests as a collection's documents, and precomputes new chunks.

    Args:
        library: recognises the texts in later prompts.
        engine_of: the engine that computes the chunks of a namespace.
        runs, worker: compute the chunks.
        open_learned: opens the earlier texts of a namespace, also from before a restart.
        precomputes: False only recognises the chunks, for a model that cannot be blended.
    """

    def __init__(
        self,
        library: Library,
        engine_of: Callable[[str], ChunkEngine],
        runs: Runs,
        worker: Worker,
        open_learned: Callable[[str], LearnedTexts],
        *,
        precomputes: bool = True,
    ) -> None:
        self._library = library
        self._engine_of = engine_of
        self._runs = runs
        self._worker = worker
        self._open_learned = open_learned
        self._learned = {"": open_learned("")}
        self._precomputes = precomputes
        self._using = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._chunks = lru_cache(REMEMBERED_DOCUMENTS)(self._split)
        library.know_also(self._learned[""].texts)

    async def chunks(self, documents: Sequence[GivenDocument]) -> list[list[GivenChunk]]:
        """The chunks of each document; later prompts recognise them, and they are soon precomputed.

        Raises:
            FieldError: a document cannot be split.
        """
        namespace = namespace_in_force.get()
        found = await asyncio.to_thread(
            lambda: [self._chunks(document.text, namespace) for document in documents]
        )
        texts = list(dict.fromkeys(chunk.text for chunks in found for chunk in chunks))
        async with self._using:
            evicted = await asyncio.to_thread(self._use, texts, namespace)
        if self._precomputes:
            task = asyncio.create_task(self._learn(texts, evicted, namespace))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return found

    def _use(self, texts: Sequence[str], namespace: str) -> list[str]:
        if namespace not in self._learned:
            self._learned[namespace] = self._open_learned(namespace)
            self._library.know_also(self._learned[namespace].texts, namespace)
        learned = self._learned[namespace]
        known = set(learned.texts)
        try:
            evicted = learned.use(texts)
        except OSError as error:
            logger.warning("documents of chat requests cannot be stored: %s", error)
            return []
        if not known.issuperset(texts):
            self._library.know_also(learned.texts, namespace)
        return evicted

    async def _learn(self, texts: Sequence[str], evicted: Sequence[str], namespace: str) -> None:
        lacking = await asyncio.to_thread(self._runs.lacks, texts, namespace)
        if lacking or evicted:
            self._worker.learn(lacking, evicted, namespace=namespace)

    def _split(self, text: str, namespace: str) -> list[GivenChunk]:
        engine = self._engine_of(namespace)
        try:
            texts = split(text, "", DEFAULTS.chunk_tokens, lambda piece: len(engine.encode(piece)))
        except ValueError as error:
            raise FieldError(f"documents: {error}", "documents") from None
        return [GivenChunk(*pair) for pair in zip(self._runs.chunk_ids(texts, namespace), texts, strict=True)]
