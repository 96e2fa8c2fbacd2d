"""Small collections, embedded without a model."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from retriever.collection import Collection
from retriever.filters import Metadata
from retriever.manifest import DocumentEntry, Settings
from retriever.publish import ChunkText, publish
from tests.support.word_embedder import WordEmbedder

MakeCollection = Callable[..., Collection]


@pytest.fixture
def embedder() -> WordEmbedder:
    return WordEmbedder()


@pytest.fixture
def make_collection(tmp_path: Path) -> MakeCollection:
    """Publishes {path: [chunk text, ...]} and opens it; ids are made of texts, a token is a word."""

    def make(
        contents: dict[str, list[str]],
        name: str = "docs",
        exact: bool = False,
        metadata: dict[str, Metadata] | None = None,
        embedder: str = WordEmbedder.name,
    ) -> Collection:
        texts = list(dict.fromkeys(text for chunks in contents.values() for text in chunks))
        documents = [
            DocumentEntry(
                path, f"Title of {path}", "0" * 64, tuple(map(key_of, chunks)), (metadata or {}).get(path, {})
            )
            for path, chunks in contents.items()
        ]
        settings = Settings(name, "model", "fp", "Be brief.", "prefix", 512, "rule", embedder)
        published = [ChunkText(key_of(text), text, len(text.split())) for text in texts]
        publish(tmp_path, settings, documents, published, WordEmbedder().embed(texts))
        return Collection.open(tmp_path, name, exact=exact)

    return make


def key_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
