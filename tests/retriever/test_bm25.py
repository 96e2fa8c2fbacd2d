"""BM25 against the formula written out, and its way to bytes and back."""

import math
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from retriever.bm25 import Bm25Index, terms_of

TEXTS = [
    "The cat sat on the mat.",
    "Cats purr when content; the cat purrs most.",
    "Engines burn petrol.",
    "---",
    "\N{CJK UNIFIED IDEOGRAPH-6771}\N{CJK UNIFIED IDEOGRAPH-4EAC} is Tokyo",
]


def written_out(query: str, k1: float = 1.5, b: float = 0.75) -> list[tuple[int, float]]:
    """Lucene's variant of BM25, term by term."""
    documents = [terms_of(text) for text in TEXTS]
    mean = sum(map(len, documents)) / len(documents)
    scores = []
    for row, words in enumerate(documents):
        counts, score = Counter(words), 0.0
        for word in terms_of(query):
            num = sum(word in other for other in documents)
            idf = math.log(1 + (len(documents) - num + 0.5) / (num + 0.5))
            score += idf * counts[word] / (counts[word] + k1 * (1 - b + b * len(words) / mean))
        scores.append((row, score))
    return sorted((pair for pair in scores if pair[1] > 0), key=lambda pair: -pair[1])


@pytest.mark.parametrize(
    "query", ["the cat", "petrol engines!", "CAT cat mat", "\N{CJK UNIFIED IDEOGRAPH-4EAC}"]
)
def test_scores_are_the_formulas(query: str) -> None:
    found, expected = Bm25Index(TEXTS).search(query, 10), written_out(query)
    assert [row for row, _ in found] == [row for row, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-5)


def test_a_query_without_a_known_word_finds_nothing() -> None:
    index = Bm25Index(TEXTS)
    assert index.search("submarine", 5) == []
    assert index.search("---", 5) == []


def test_only_the_rows_allowed_are_found() -> None:
    index = Bm25Index(TEXTS)
    assert [row for row, _ in index.search("the cat", 5, np.array([1, 2, 3]))] == [1]
    assert index.search("the cat", 5, np.array([], dtype=np.int64)) == []


def test_texts_without_any_word() -> None:
    index = Bm25Index.from_bytes(Bm25Index(["---", "!"]).to_bytes())
    assert index.search("cat", 5) == []


def test_bytes_bring_back_the_same_scores() -> None:
    index = Bm25Index(TEXTS)
    assert Bm25Index.from_bytes(index.to_bytes()).search("the cat", 5) == index.search("the cat", 5)


@pytest.mark.parametrize("data", [b"", b"nonsense, and some more of it"])
def test_bytes_that_are_no_index_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a word index|pickle"):
        Bm25Index.from_bytes(data)


def test_equal_texts_give_equal_bytes_in_every_process() -> None:
    script = (
        "import sys; from retriever.bm25 import Bm25Index; "
        "sys.stdout.buffer.write(Bm25Index(['b a', 'a c']).to_bytes())"
    )
    root = Path(__file__).parents[2]
    runs = [
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=root,
            capture_output=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(filter(None, sys.path))},
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
