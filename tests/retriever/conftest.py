"""Small collections, embedded without a model."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from retriever.collection import Collection
from retriever.manifest import DocumentEntry, Settings
from retriever.publish import publish
from tests.retriever.word_embedder import WordEmbedder

MakeCollection = Callable[..., Collection]


@pytest.fixture
def embedder() -> WordEmbedder:
    return WordEmbedder()


@pytest.fixture
def make_collection(tmp_path: Path) -> MakeCollection:
    """Publishes {path: [chunk text, ...]} and opens it; a chunk's id is made of its text."""

    def make(contents: dict[str, list[str]], name: str = "docs", exact: bool = False) -> Collection:
        texts = {key_of(text): text for chunks in contents.values() for text in chunks}
        documents = [
            DocumentEntry(path, f"Title of {path}", "0" * 64, tuple(map(key_of, chunks)))
            for path, chunks in contents.items()
        ]
        settings = Settings(name, "model", "fp", "Be brief.", "prefix", 512, "rule", WordEmbedder.name)
        publish(tmp_path, settings, documents, texts, WordEmbedder().embed(list(texts.values())))
        return Collection.open(tmp_path, name, exact=exact)

    return make


def key_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
