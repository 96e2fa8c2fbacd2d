"""A server's ingestion without an engine: a real library and store, random numbers for chunk KV."""

import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from api.server.chat_documents.chat import ChatDocuments
from api.server.chat_documents.learned import LearnedTexts
from api.server.chat_documents.learning import Learning
from api.server.collections.library import Library
from api.server.ingest.ingest import Ingest
from api.server.ingest.pacing import Interruption, Pace
from api.server.ingest.runs import Runs
from api.server.settings import DEFAULTS, ServeConfig
from api.server.surface.request import namespace_in_force
from blend.chunks.chunk import ChunkRecord
from retriever.retrieve import Hit
from tests.support.fake_engine import FakeEngine
from tests.support.word_embedder import WordEmbedder

MODEL = "fake-fingerprint"


class HeldEngine(FakeEngine):
    """Computes nothing until the test allows it, like an engine that is busy; heeds interruptions."""

    def __init__(self, store: Path, interruption: Interruption, namespace: str = "") -> None:
        super().__init__(store, MODEL, max_model_len=4000, namespace=namespace)
        self.interruption = interruption
        self.reached = threading.Event()
        self.may_compute = threading.Event()
        self.may_compute.set()

    def compute(self, records: Sequence[ChunkRecord]) -> int:
        self.reached.set()
        while not self.may_compute.wait(0.005):
            self.interruption.heed()
        return super().compute(records)


class NoTemplate:
    """A tokenizer of a model without a chat template."""

    chat_template = None


@dataclass
class IngestingServer:
    """The parts of a server; `engine` serves the public namespace."""

    library: Library
    engine: HeldEngine
    engine_of: Callable[[str], HeldEngine]
    ingest: Ingest
    learning: Learning
    documents: ChatDocuments

    def found(self, name: str, query: str) -> list[Hit]:
        return self.library.search(name, query)

    def texts(self, name: str, query: str) -> list[str]:
        return [hit.text for hit in self.found(name, query)]


@asynccontextmanager
async def ingesting_server(
    store: Path, *names: str, settings: ServeConfig = DEFAULTS, share: float = 1.0
) -> AsyncIterator[IngestingServer]:
    """A server's ingestion, from its start to its end."""
    library = Library(store, names, opener=WordEmbedder, reader=namespace_in_force.get)
    interruption, pace = Interruption(), Pace(share, lambda: False)
    engine_of = cache(lambda namespace: HeldEngine(store, interruption, namespace))
    engine = engine_of("")
    runs = Runs(library, engine_of, pace, interruption, settings.embedder)
    ingest = Ingest(library, runs, interruption, MODEL, settings)

    def open_learned(namespace: str) -> LearnedTexts:
        return LearnedTexts(store / "learned" / f"mark{namespace}", settings.max_learned_chunks)

    learning = Learning(library, engine_of, runs, ingest.worker, open_learned)
    await ingest.start()
    try:
        yield IngestingServer(
            library, engine, engine_of, ingest, learning, ChatDocuments(learning, NoTemplate(), settings)
        )
    finally:
        await ingest.close()


def wait_for(event: threading.Event) -> None:
    assert event.wait(10)


def soon(what: object, deadline_s: float = 60.0) -> None:
    """Wait until a condition holds."""
    assert callable(what)
    end_s = time.monotonic() + deadline_s
    while not what():
        assert time.monotonic() < end_s, "it never came true"
        time.sleep(0.01)
