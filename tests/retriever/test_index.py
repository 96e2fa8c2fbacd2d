"""FAISS against its naive twin."""

from dataclasses import replace

import numpy as np
import pytest

from retriever.config import DEFAULTS
from retriever.hnsw import HnswIndex
from retriever.index import ExactIndex, FlatIndex, Index
from retriever.index_choice import build_index, read_index


def unit_vectors(seed: int, rows: int, dim: int = 16) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((rows, dim), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("top_k", [1, 5, 40, 100])
def test_faiss_finds_what_the_naive_twin_finds(top_k: int) -> None:
    vectors = unit_vectors(0, rows=40)
    for query in unit_vectors(1, rows=5):
        expected, got = ExactIndex(vectors).search(query, top_k), FlatIndex(vectors).search(query, top_k)
        assert [row for row, _ in got] == [row for row, _ in expected]
        assert [score for _, score in got] == pytest.approx([score for _, score in expected], abs=1e-6)
        assert len(got) == min(top_k, 40)


@pytest.mark.parametrize("kind", [ExactIndex, FlatIndex])
def test_a_vector_finds_itself_first_and_equals_come_in_row_order(kind: type) -> None:
    vectors = unit_vectors(0, rows=10)
    vectors[7] = vectors[3]
    found = kind(vectors).search(vectors[7], 3)
    assert [row for row, _ in found][:2] == [3, 7]
    assert found[0][1] == pytest.approx(1.0, abs=1e-6)


@pytest.fixture
def small_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collections get a graph from 200 chunks on."""
    small = replace(DEFAULTS, hnsw_from_chunks=200)
    monkeypatch.setattr("retriever.index_choice.DEFAULTS", small)
    monkeypatch.setattr("retriever.hnsw.DEFAULTS", small)


def recall(index: Index, exact: Index, rows: np.ndarray | None = None) -> float:
    queries = unit_vectors(9, rows=50)
    found = [{row for row, _ in index.search(query, 10, rows)} for query in queries]
    expected = [{row for row, _ in exact.search(query, 10, rows)} for query in queries]
    return sum(len(one & other) for one, other in zip(found, expected, strict=True)) / (10 * len(queries))


def test_the_index_suits_the_number_of_vectors(small_graphs: None) -> None:
    assert isinstance(build_index(unit_vectors(0, rows=199)), FlatIndex)
    assert isinstance(build_index(unit_vectors(0, rows=200)), HnswIndex)


def test_a_graph_finds_nearly_all_and_survives_its_bytes(small_graphs: None) -> None:
    vectors = unit_vectors(0, rows=2000)
    again = read_index(build_index(vectors).to_bytes())
    assert isinstance(again, HnswIndex)
    assert np.array_equal(again.vectors, vectors)
    assert recall(again, ExactIndex(vectors)) > 0.97


def test_an_update_inserts_what_is_new_and_never_finds_what_is_gone(small_graphs: None) -> None:
    old, new = unit_vectors(0, rows=1000), unit_vectors(1, rows=100)
    first = build_index(old)
    kept = old[100:][::-1]  # a tenth leaves, and the rest stands elsewhere
    vectors = np.concatenate([new[:50], kept, new[50:]])
    updated = build_index(vectors, read_index(first.to_bytes()))
    assert isinstance(updated, HnswIndex)
    assert updated._index.ntotal == 1100, "vectors that were there are not inserted again"
    assert np.array_equal(updated.vectors, vectors)
    assert recall(updated, ExactIndex(vectors)) > 0.97
    gone, _ = zip(*(updated.search(vector, 3)[0] for vector in old[:100]), strict=True)
    assert set(gone) <= set(range(1000))
    again = read_index(updated.to_bytes())
    assert np.array_equal(again.vectors, vectors)
    assert recall(again, ExactIndex(vectors)) > 0.97


def test_a_graph_with_too_much_that_is_gone_is_built_anew(small_graphs: None) -> None:
    old, new = unit_vectors(0, rows=500), unit_vectors(1, rows=400)
    updated = build_index(np.concatenate([new, old[:200]]), build_index(old))
    assert isinstance(updated, HnswIndex)
    assert updated._index.ntotal == 600


def test_equal_vectors_of_different_rows_survive_an_update(small_graphs: None) -> None:
    old = np.repeat(unit_vectors(0, rows=150), 2, axis=0)
    updated = build_index(old[20:], build_index(old))
    assert np.array_equal(updated.vectors, old[20:])


@pytest.mark.parametrize("num_allowed", [0, 1, 150, 900])
@pytest.mark.parametrize("kind", [FlatIndex, HnswIndex])
def test_only_the_rows_allowed_are_found(small_graphs: None, kind: type, num_allowed: int) -> None:
    vectors = unit_vectors(0, rows=1000)
    rows = np.sort(np.random.default_rng(2).permutation(1000)[:num_allowed])
    index = kind(vectors)
    found = index.search(vectors[0], 10, rows)
    assert len(found) == min(10, num_allowed)
    assert {row for row, _ in found} <= set(rows.tolist())
    if num_allowed:
        assert recall(index, ExactIndex(vectors), rows) * 10 > min(10, num_allowed) * 0.97


def test_bytes_bring_back_the_same_vectors() -> None:
    vectors = unit_vectors(0, rows=10)
    again = read_index(FlatIndex(vectors).to_bytes())
    assert np.array_equal(again.vectors, vectors)
    assert again.search(vectors[4], 1)[0][0] == 4


def test_bytes_that_are_no_index_are_refused() -> None:
    with pytest.raises(ValueError, match="FAISS"):
        read_index(b"nonsense, and some more of it")
