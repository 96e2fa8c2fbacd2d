"""Ingestion beside a server, without its engine: a real library and store, random numbers for chunk KV."""

import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from api.documents.chat import ChatDocuments
from api.documents.learned import LearnedTexts
from api.documents.learning import Learning
from api.ingest.ingest import Ingest
from api.ingest.pacing import Interruption, Pace
from api.ingest.runs import Runs
from api.ingest.settings import DEFAULTS, IngestSettings
from api.library import Library
from blend.chunk import ChunkRecord
from retriever.retrieve import Hit
from tests.precompute.fake_engine import FakeEngine
from tests.retriever.word_embedder import WordEmbedder

MODEL = "fake-fingerprint"


class HeldEngine(FakeEngine):
    """Computes nothing before it is let go, as an engine that others keep busy, and stops when asked to."""

    def __init__(self, store: Path, interruption: Interruption) -> None:
        super().__init__(store, MODEL, max_model_len=4000)
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
class Beside:
    """What a server has."""

    library: Library
    engine: HeldEngine
    ingest: Ingest
    learning: Learning
    documents: ChatDocuments

    def found(self, name: str, query: str) -> list[Hit]:
        return self.library.search(name, query)

    def texts(self, name: str, query: str) -> list[str]:
        return [hit.text for hit in self.found(name, query)]


@asynccontextmanager
async def beside(
    store: Path, *names: str, settings: IngestSettings = DEFAULTS, share: float = 1.0
) -> AsyncIterator[Beside]:
    """A server's ingestion, from its start to its end."""
    library = Library(store, names, opener=lambda name: WordEmbedder())
    interruption, pace = Interruption(), Pace(share, lambda: False)
    engine = HeldEngine(store, interruption)
    runs = Runs(library, engine, pace, interruption)
    ingest = Ingest(library, runs, interruption, MODEL, settings)
    learned = LearnedTexts(store / "learned" / "mark", settings.max_learned_chunks)
    learning = Learning(library, engine, runs, ingest.worker, learned)
    await ingest.start()
    try:
        yield Beside(library, engine, ingest, learning, ChatDocuments(learning, NoTemplate(), settings))
    finally:
        await ingest.close()


def wait_for(event: threading.Event) -> None:
    assert event.wait(10)


def soon(what: object, deadline_s: float = 10.0) -> None:
    """Wait until a condition holds."""
    assert callable(what)
    end_s = time.monotonic() + deadline_s
    while not what():
        assert time.monotonic() < end_s, "it never came true"
        time.sleep(0.01)
