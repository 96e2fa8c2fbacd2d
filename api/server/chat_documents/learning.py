"""Chunks of documents that come in chat requests: found in prompts at once, precomputed in the background."""

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
        engine_of: what computes the chunks of a namespace.
        runs, worker: have them computed.
        open_learned: what came before in a namespace, also before a restart.
        precomputes: False leaves it at finding them: chunk KV of the model is of no use.
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
        """The chunks of each document; from now on their texts are found in prompts, and soon stored.

        Raises:
            FieldError: a document cannot be split.
        """
        namespace = namespace_in_force.get()
        found = await asyncio.to_thread(
            lambda: [self._chunks(document.text, namespace) for document in documents]
        )
        texts = list(dict.fromkeys(chunk.text for chunks in found for chunk in chunks))
        async with self._using:
            gone = await asyncio.to_thread(self._use, texts, namespace)
        if self._precomputes:
            task = asyncio.create_task(self._learn(texts, gone, namespace))
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
            gone = learned.use(texts)
        except OSError as error:
            logger.warning("documents of chat requests cannot be remembered: %s", error)
            return []
        if not known.issuperset(texts):
            self._library.know_also(learned.texts, namespace)
        return gone

    async def _learn(self, texts: Sequence[str], gone: Sequence[str], namespace: str) -> None:
        lacking = await asyncio.to_thread(self._runs.lacks, texts, namespace)
        if lacking or gone:
            self._worker.learn(lacking, gone, namespace=namespace)

    def _split(self, text: str, namespace: str) -> list[GivenChunk]:
        engine = self._engine_of(namespace)
        try:
            texts = split(text, "", DEFAULTS.chunk_tokens, lambda piece: len(engine.encode(piece)))
        except ValueError as error:
            raise FieldError(f"documents: {error}", "documents") from None
        return [GivenChunk(*pair) for pair in zip(self._runs.chunk_ids(texts, namespace), texts, strict=True)]
