"""Vectors kept between runs: nothing is embedded twice, and what was cut off is embedded again."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.retrieval.kept_vectors import KeptVectors
from retriever.index import Vectors
from tests.support.word_embedder import WordEmbedder

TEXTS = ["the cat", "the mat", "a dog", "the cat"]


class Counting(WordEmbedder):
    """Remembers what it was asked for."""

    def __init__(self, name: str = "words") -> None:
        self.name = name
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.asked += texts
        return super().embed(texts)


def test_a_second_run_embeds_only_what_is_new(tmp_path: Path) -> None:
    first = KeptVectors(Counting(), tmp_path / "kept")
    expected = WordEmbedder().embed(TEXTS)
    assert np.array_equal(first.embed(TEXTS), expected)
    assert first.num_embedded == 3

    embedder = Counting()
    second = KeptVectors(embedder, tmp_path / "kept")
    assert np.array_equal(second.embed([*TEXTS, "new"])[:4], expected)
    assert embedder.asked == ["new"] and second.num_embedded == 1


def test_another_model_finds_nothing_of_the_first(tmp_path: Path) -> None:
    KeptVectors(Counting(), tmp_path).embed(TEXTS)
    other = Counting("other words")
    KeptVectors(other, tmp_path).embed(TEXTS[:1])
    assert other.asked == TEXTS[:1]


def test_a_record_that_was_cut_off_is_embedded_again(tmp_path: Path) -> None:
    KeptVectors(Counting(), tmp_path).embed(TEXTS)
    [file] = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    embedder = Counting()
    assert np.array_equal(KeptVectors(embedder, tmp_path).embed(TEXTS), WordEmbedder().embed(TEXTS))
    assert embedder.asked == ["a dog"]
    again = Counting()
    assert np.array_equal(KeptVectors(again, tmp_path).embed(TEXTS), WordEmbedder().embed(TEXTS))
    assert again.asked == []
