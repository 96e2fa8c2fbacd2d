"""Searches of a collection of ten thousand chunks, with their words drawn by popularity."""

import time
from statistics import median

import numpy as np
import pytest

from retriever.collection import Collection
from retriever.filters import parse_filter
from retriever.index import Vectors
from retriever.manifest import DocumentEntry, Settings
from retriever.publish import ChunkText, publish
from retriever.retrieve import Retriever
from retriever.search import Method, Search
from tests.support.yardstick import unit_s

CHUNKS, WORDS, DIM = 10_000, 120, 384
LIMIT_UNITS = 2
"""Of `tests.support.yardstick`: ten milliseconds on a server's core."""


class Directions:
    """An embedder of no meaning and no cost: a search's own time is what is left."""

    name, dim = "directions", DIM

    def embed(self, texts: list[str]) -> Vectors:
        vectors = np.random.default_rng(len(texts[0])).standard_normal((len(texts), DIM), dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    store = tmp_path_factory.mktemp("large")
    drawn = np.random.default_rng(0).zipf(1.3, (CHUNKS, WORDS)) % 50_000
    chunks = [
        ChunkText(f"{i:05}", " ".join(f"word{word}" for word in row), WORDS) for i, row in enumerate(drawn)
    ]
    documents = [
        DocumentEntry(
            f"{i}.md", "t", "0", tuple(c.chunk_id for c in chunks[i * 10 : i * 10 + 10]), {"year": i}
        )
        for i in range(CHUNKS // 10)
    ]
    settings = Settings("large", "m", "fp", "", None, 512, "rule", "directions")
    publish(store, settings, documents, chunks, Directions().embed([chunk.text for chunk in chunks]))
    return Retriever(Collection.open(store, "large"), Directions())


@pytest.mark.slow
@pytest.mark.parametrize("method", Method)
@pytest.mark.parametrize("filtered", [False, True])
def test_ten_thousand_chunks_are_searched_in_under_ten_milliseconds(
    retriever: Retriever, method: Method, filtered: bool
) -> None:
    wanted = parse_filter({"type": "lt", "key": "year", "value": 500}) if filtered else None
    asked = Search(method, filter=wanted, neighbours=1)
    times = []
    for i in range(60):
        query = " ".join(f"word{(i * 7 + j) % 200 + 1}" for j in range(8))
        start = time.perf_counter()
        assert len(retriever.search(query, asked)) >= 6
        times.append((time.perf_counter() - start) * 1e3)
    print(f"{method}, {'half of the documents' if filtered else 'all'}: {median(times):.2f} ms")
    assert median(times) < LIMIT_UNITS * unit_s() * 1e3
