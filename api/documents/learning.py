"""Chunks of documents that come in chat requests: found in prompts at once, precomputed in the background."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from api.documents.forms import GivenDocument
from api.documents.learned import LearnedTexts
from api.errors import FieldError
from api.ingest.runs import Runs
from api.ingest.worker import Worker
from api.library import Library
from precompute.config import DEFAULTS
from precompute.engine import ChunkEngine
from precompute.splitter import split

logger = logging.getLogger(__name__)

REMEMBERED_DOCUMENTS = 256
"""A document that comes again soon need not be split again."""


@dataclass(frozen=True, slots=True)
class GivenChunk:
    """A chunk of a document of a request."""

    chunk_id: str
    text: str


class Learning:
    """Splits documents of chat requests as a collection's are, and has what is new precomputed.

    Args:
        library: finds the texts in prompts from then on.
        runs, worker: compute them.
        learned: what came before, also before a restart.
        precomputes: False leaves it at finding them: chunk KV of the model is of no use.
    """

    def __init__(
        self,
        library: Library,
        engine: ChunkEngine,
        runs: Runs,
        worker: Worker,
        learned: LearnedTexts,
        *,
        precomputes: bool = True,
    ) -> None:
        self._library = library
        self._engine = engine
        self._runs = runs
        self._worker = worker
        self._learned = learned
        self._precomputes = precomputes
        self._using = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._chunks = lru_cache(REMEMBERED_DOCUMENTS)(self._split)
        library.know_also(learned.texts)

    async def chunks(self, documents: Sequence[GivenDocument]) -> list[list[GivenChunk]]:
        """The chunks of each document; from now on their texts are found in prompts, and soon stored.

        Raises:
            FieldError: a document cannot be split.
        """
        found = await asyncio.to_thread(lambda: [self._chunks(document.text) for document in documents])
        texts = list(dict.fromkeys(chunk.text for chunks in found for chunk in chunks))
        async with self._using:
            gone = await asyncio.to_thread(self._use, texts)
        if self._precomputes:
            task = asyncio.create_task(self._learn(texts, gone))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return found

    def _use(self, texts: Sequence[str]) -> list[str]:
        known = set(self._learned.texts)
        try:
            gone = self._learned.use(texts)
        except OSError as error:
            logger.warning("documents of chat requests cannot be remembered: %s", error)
            return []
        if not known.issuperset(texts):
            self._library.know_also(self._learned.texts)
        return gone

    async def _learn(self, texts: Sequence[str], gone: Sequence[str]) -> None:
        lacking = await asyncio.to_thread(self._runs.lacks, texts)
        if lacking or gone:
            self._worker.learn(lacking, gone)

    def _split(self, text: str) -> list[GivenChunk]:
        try:
            texts = split(text, "", DEFAULTS.chunk_tokens, lambda piece: len(self._engine.encode(piece)))
        except ValueError as error:
            raise FieldError(f"documents: {error}", "documents") from None
        return [GivenChunk(*pair) for pair in zip(self._runs.chunk_ids(texts), texts, strict=True)]
