"""One collection of passages, searched for the questions that they answer, by each method."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import numpy as np

from bench.fidelity.questions import read_passages
from bench.progress import Count
from bench.report import table
from bench.retrieval.kept_vectors import KeptVectors
from blend.errors import RequestError
from retriever.collection import Collection
from retriever.embed import Embedder
from retriever.hnsw import HnswIndex
from retriever.index import Vectors
from retriever.manifest import DocumentEntry, Settings
from retriever.publish import ChunkText, publish
from retriever.rerank import Reranker
from retriever.retrieve import Retriever
from retriever.search import Method, Search

NAME = "bench"
DEPTH = 10
EMBED_AT_ONCE = 320
"""Passages between two reports of progress."""


@dataclass(frozen=True, slots=True)
class Material:
    """Passages to search, and questions to search for.

    Attributes:
        passages: different ones.
        questions: each with the row of the passage that answers it.
    """

    passages: tuple[str, ...]
    questions: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Made:
    """The collection, and the time that embedding took.

    Attributes:
        embedder: gives the questions' vectors from memory, so that searches are timed without them.
        passages_per_s: that were embedded; None when an earlier run had embedded them all.
    """

    collection: Collection
    exact: Collection
    embedder: Embedder
    passages_per_s: float | None
    question_ms: float


@dataclass(frozen=True, slots=True)
class Arm:
    """The results of one method.

    Attributes:
        ranks: of each question's passage, from 1; None where it is not among the first ten.
        of_exact: share of exact search's first ten that it finds too; None where that says nothing.
        ms: of each search, without embedding the question.
    """

    name: str
    ranks: tuple[int | None, ...]
    of_exact: float | None
    ms: tuple[float, ...]

    def recall(self, depth: int) -> float:
        """Share of the questions whose passage is among the first.

        >>> Arm("bm25", (1, 7, None, 2), None, (1.0,)).recall(5)
        0.5
        """
        return sum(rank is not None and rank <= depth for rank in self.ranks) / len(self.ranks)


class _Remembered:
    """An embedder that knows some texts' vectors."""

    def __init__(self, embedder: Embedder, texts: Sequence[str]) -> None:
        self.name, self.dim = embedder.name, embedder.dim
        self._vectors = {text: embedder.embed([text])[0] for text in texts}

    def embed(self, texts: Sequence[str]) -> Vectors:
        return np.stack([self._vectors[text] for text in texts])


def read_material(data: Path, corpus: Path | None, passages: int, questions: int, seed: int) -> Material:
    """Questions, the passages that answer them, and others drawn until there are enough.

    Raises:
        RequestError: a file cannot be read or has other rows, or no row has a question.
    """
    rows = read_passages(data)
    others = [] if corpus is None else [passage for _, passage in read_passages(corpus)]
    Random(seed).shuffle(others)
    asked = [(question, passage) for question, passage in rows if question is not None][:questions]
    if not asked:
        raise RequestError(
            f"{data}: got {len(rows)} rows without a question, expected question, title and text"
        )
    answering = [passage for _, passage in asked]
    everything = dict.fromkeys([*answering, *(passage for _, passage in rows), *others])
    chosen = tuple(everything)[: max(passages, len(set(answering)))]
    row_of = {passage: row for row, passage in enumerate(chosen)}
    return Material(chosen, tuple((question, row_of[passage]) for question, passage in asked))


def make_collection(
    store: Path,
    material: Material,
    embedder: Embedder,
    progress: Count,
    keep: Path | None = None,
) -> Made:
    """Embed everything, and publish the passages, each a document of its own.

    Args:
        keep: folder in which the passages' vectors stay for the next run; None leaves them nowhere.
    """
    ids = [f"{row:06}" for row in range(len(material.passages))]
    kept = KeptVectors(embedder, store / "vectors" if keep is None else keep)
    start = time.perf_counter()
    vectors = np.concatenate(list(_embedded(kept, material.passages, progress)))
    passages_s = time.perf_counter() - start
    settings = Settings(NAME, "", "", "", None, 512, "", embedder.name)
    documents = [DocumentEntry(key, key, "", (key,)) for key in ids]
    chunks = [ChunkText(key, text, 0) for key, text in zip(ids, material.passages, strict=True)]
    publish(store, settings, documents, chunks, vectors)
    questions = [question for question, _ in material.questions]
    start = time.perf_counter()
    remembered = _Remembered(embedder, questions)
    question_ms = (time.perf_counter() - start) * 1e3 / len(questions)
    opened, exact = Collection.open(store, NAME), Collection.open(store, NAME, exact=True)
    rate = kept.num_embedded / passages_s if kept.num_embedded else None
    return Made(opened, exact, remembered, rate, question_ms)


def _embedded(embedder: Embedder, texts: Sequence[str], progress: Count) -> Iterator[Vectors]:
    for start in range(0, len(texts), EMBED_AT_ONCE):
        yield embedder.embed(texts[start : start + EMBED_AT_ONCE])
        progress(min(start + EMBED_AT_ONCE, len(texts)), len(texts), "passages embedded")


def find_all(made: Made, material: Material, rerankers: Sequence[Reranker] = ()) -> list[Arm]:
    """Every method on every question; every re-ranker on the candidates of the fused method."""
    graph = replace(made.collection, index=HnswIndex(made.collection.index.vectors))
    exact = _find("dense, exact (numpy)", made.exact, Method.DENSE, made, material, None)
    told = [
        ("dense, flat (FAISS)", made.collection, Method.DENSE),
        ("dense, graph (HNSW)", graph, Method.DENSE),
        ("bm25", made.collection, Method.BM25),
        ("fused", made.collection, Method.FUSED),
    ]
    arms = [_find(name, where, method, made, material, exact[1]) for name, where, method in told]
    read_again = [
        _find(f"fused, re-ranked by {one.name}", made.collection, Method.FUSED, made, material, None, one)
        for one in rerankers
    ]
    return [exact[0], *(arm for arm, _ in arms + read_again)]


def _find(
    name: str,
    collection: Collection,
    method: Method,
    made: Made,
    material: Material,
    exact: list[list[str]] | None,
    reranker: Reranker | None = None,
) -> tuple[Arm, list[list[str]]]:
    retriever = Retriever(collection, made.embedder, reranker)
    asked = Search(method, top_k=DEPTH, deduplicate=False)
    found, ms = [], []
    retriever.search(material.questions[0][0], asked)  # warm: imports
    for question, _ in material.questions:
        start = time.perf_counter()
        hits = retriever.search(question, asked)
        ms.append((time.perf_counter() - start) * 1e3)
        found.append([hit.chunk_id for hit in hits])
    gold = [f"{row:06}" for _, row in material.questions]
    ranks = tuple(ids.index(key) + 1 if key in ids else None for ids, key in zip(found, gold, strict=True))
    near = exact if method is Method.DENSE else None
    return Arm(name, ranks, None if near is None else _overlap(found, near), tuple(ms)), found


def _overlap(found: list[list[str]], exact: list[list[str]]) -> float:
    both = sum(len(set(one) & set(other)) for one, other in zip(found, exact, strict=True))
    return both / sum(map(len, exact))


def as_object(arm: Arm) -> dict[str, Any]:
    """An arm in the JSON line."""
    return {
        "name": arm.name,
        "recall_at_5": round(arm.recall(5), 4),
        "recall_at_10": round(arm.recall(10), 4),
        "of_exact_10": None if arm.of_exact is None else round(arm.of_exact, 4),
        "ms_median": round(median(arm.ms), 3),
        "ms_p90": round(float(np.quantile(arm.ms, 0.9)), 3),
    }


def render(arms: Sequence[Arm]) -> str:
    """The table."""
    rows = [
        (
            arm.name,
            f"{arm.recall(5):.1%}",
            f"{arm.recall(10):.1%}",
            None if arm.of_exact is None else f"{arm.of_exact:.1%}",
            f"{median(arm.ms):.2f}",
            f"{np.quantile(arm.ms, 0.9):.2f}",
        )
        for arm in arms
    ]
    return table(("method", "recall@5", "recall@10", "of exact's 10", "ms", "ms, p90"), rows)
