"""Start and stop of ingestion in a server: it starts after the engine and stops before it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from api.server.chat_documents.chat import ChatDocuments
from api.server.chat_documents.learned import LearnedTexts
from api.server.chat_documents.learning import Learning
from api.server.collections.library import Library
from api.server.ingest.ingest import Ingest
from api.server.ingest.pacing import Interruption
from api.server.ingest.runs import Runs
from api.server.ingest.serving_engine import ServingEngines, paced
from api.server.settings import ServeConfig
from blend.errors import NotBlendable
from blend.store.layout import mark_of
from blend.vllm.engine.setup import EngineSetup

logger = logging.getLogger(__name__)

STOP_S = 5.0
"""Time that a server's shutdown waits for the current run to stop."""


@dataclass(frozen=True, slots=True)
class Ingestion:
    """Ingestion of managed collections and of documents in chat requests.

    Attributes:
        loop: the event loop that it belongs to.
    """

    ingest: Ingest
    documents: ChatDocuments
    loop: asyncio.AbstractEventLoop

    def stop(self) -> None:
        """Stop the current run, which the next start resumes, and begin no other.

        Called from a thread while the event loop runs.
        """
        closing = asyncio.run_coroutine_threadsafe(self.ingest.close(), self.loop)
        with suppress(TimeoutError):
            closing.result(STOP_S)


@asynccontextmanager
async def ingesting(
    client: Any, library: Library, setup: EngineSetup, settings: ServeConfig
) -> AsyncIterator[Ingestion | None]:
    """Ingest documents while the block runs; None if the model's tokenizer cannot tokenise chunks one by one.

    Args:
        client: vLLM's `EngineClient`, on the running loop.
    """
    tokenizer = client.renderer.get_tokenizer()
    pace, interruption = paced(client, settings.ingest_share), Interruption()
    engines = ServingEngines(client, tokenizer, setup, pace, interruption)
    try:
        engines.of("")
    except NotBlendable as error:
        logger.warning("only kvblend precompute can ingest documents: %s", error)
        yield None
        return
    runs = Runs(library, engines.of, pace, interruption, settings.embedder)
    ingest = Ingest(library, runs, interruption, setup.settings.fingerprint, settings)

    def open_learned(namespace: str) -> LearnedTexts:
        mark = mark_of(setup.settings.within(namespace).fingerprint)
        return LearnedTexts(library.store / "learned" / mark, settings.max_learned_chunks)

    learning = Learning(
        library, engines.of, runs, ingest.worker, open_learned, precomputes=setup.not_blendable is None
    )
    await ingest.start()
    try:
        documents = ChatDocuments(learning, tokenizer, settings)
        yield Ingestion(ingest, documents, asyncio.get_running_loop())
    finally:
        await ingest.close()
        await asyncio.to_thread(engines.close)
