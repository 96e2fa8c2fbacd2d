"""FAISS against its naive twin."""

import numpy as np
import pytest

from retriever.index import ExactIndex, FaissIndex


def unit_vectors(seed: int, rows: int, dim: int = 16) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((rows, dim), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("top_k", [1, 5, 40, 100])
def test_faiss_finds_what_the_naive_twin_finds(top_k: int) -> None:
    vectors = unit_vectors(0, rows=40)
    for query in unit_vectors(1, rows=5):
        expected, got = ExactIndex(vectors).search(query, top_k), FaissIndex(vectors).search(query, top_k)
        assert [row for row, _ in got] == [row for row, _ in expected]
        assert [score for _, score in got] == pytest.approx([score for _, score in expected], abs=1e-6)
        assert len(got) == min(top_k, 40)


@pytest.mark.parametrize("kind", [ExactIndex, FaissIndex])
def test_a_vector_finds_itself_first_and_equals_come_in_row_order(kind: type) -> None:
    vectors = unit_vectors(0, rows=10)
    vectors[7] = vectors[3]
    found = kind(vectors).search(vectors[7], 3)
    assert [row for row, _ in found][:2] == [3, 7]
    assert found[0][1] == pytest.approx(1.0, abs=1e-6)


def test_bytes_bring_back_the_same_vectors() -> None:
    vectors = unit_vectors(0, rows=10)
    again = FaissIndex.from_bytes(FaissIndex(vectors).to_bytes())
    assert np.array_equal(again.vectors, vectors)
    assert again.search(vectors[4], 1)[0][0] == 4


def test_bytes_that_are_no_index_are_refused() -> None:
    with pytest.raises(ValueError, match="FAISS"):
        FaissIndex.from_bytes(b"nonsense, and some more of it")
