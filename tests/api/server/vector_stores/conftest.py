"""Vector stores over real ingestion, without a model: words are tokens, and shared words make texts near."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest
from fastapi import FastAPI

from api.server.vector_stores.routes import open_vector_stores, vector_stores_router
from tests.support.http_app import application, client_of
from tests.support.ingesting_server import HeldEngine, ingesting_server


@dataclass(frozen=True)
class Served:
    """A server of files and vector stores, and OpenAI's client to it."""

    client: openai.OpenAI
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
    engines: list[HeldEngine] = []

    @asynccontextmanager
    async def ingesting(app: FastAPI) -> AsyncIterator[None]:
        async with ingesting_server(store) as server:
            engines.append(server.engine)
            app.include_router(vector_stores_router(open_vector_stores(server.library, server.ingest)))
            yield

    with client_of(application(ingesting)) as client:
        yield Served(client, engines[0], store)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("store")) as server:
        yield server
