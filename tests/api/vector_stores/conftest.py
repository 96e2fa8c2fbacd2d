"""Vector stores over real ingestion, without a model: words are tokens, and shared words make texts near."""

import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest
from fastapi import FastAPI

from api.ingest.ingest import Ingest
from api.ingest.pacing import Interruption, Pace
from api.ingest.runs import Runs
from api.library import Library
from api.vector_stores.routes import open_vector_stores, vector_stores_router
from blend.chunk import ChunkRecord
from tests.api.live import application, client_of
from tests.precompute.fake_engine import FakeEngine
from tests.retriever.word_embedder import WordEmbedder

FINGERPRINT = "fake-fingerprint"


class HeldEngine(FakeEngine):
    """One that can be made to wait."""

    def __init__(self, store: Path, interruption: Interruption) -> None:
        super().__init__(store, FINGERPRINT, max_model_len=4000)
        self.may_compute = threading.Event()
        self.may_compute.set()
        self._interruption = interruption

    def compute(self, records: Sequence[ChunkRecord]) -> int:
        while not self.may_compute.wait(0.005):
            self._interruption.heed()
        return super().compute(records)


@dataclass(frozen=True)
class Served:
    """A server of files and vector stores, and OpenAI's client to it."""

    client: openai.OpenAI
    library: Library
    engine: HeldEngine
    store: Path

    def upload(self, name: str, text: str) -> str:
        return self.client.files.create(file=(name, text.encode()), purpose="assistants").id

    def filled(self, texts: dict[str, str], **said: object) -> str:
        """A vector store with such files in it, ready."""
        made = self.client.vector_stores.create(**said)  # type: ignore[arg-type]
        ids = [self.upload(name, text) for name, text in texts.items()]
        batch = self.client.vector_stores.file_batches.create_and_poll(
            made.id, file_ids=ids, poll_interval_ms=20
        )
        assert batch.file_counts.completed == len(texts)
        return made.id

    def found(self, store_id: str, query: str, **said: object) -> list[str]:
        """Names of the files that a search finds."""
        results = self.client.vector_stores.search(store_id, query=query, **said)  # type: ignore[arg-type]
        return [one.filename for one in results.data]


@contextmanager
def serving(store: Path) -> Iterator[Served]:
    """A server over a store, from its start to its end."""
    library = Library(store, (), opener=lambda name: WordEmbedder())
    interruption = Interruption()
    engine = HeldEngine(store, interruption)
    runs = Runs(library, engine, Pace(1.0, lambda: False), interruption)

    @asynccontextmanager
    async def ingesting(app: FastAPI) -> AsyncIterator[None]:
        ingest = Ingest(library, runs, interruption, FINGERPRINT)
        app.include_router(vector_stores_router(open_vector_stores(library, ingest)))
        await ingest.start()
        yield
        await ingest.close()

    with client_of(application(ingesting)) as client:
        yield Served(client, library, engine, store)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("store")) as server:
        yield server
