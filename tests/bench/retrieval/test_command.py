"""`kvblend bench retrieval` on a few sentences, embedded without a model."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.retrieval.retrieving import find_all, make_collection, read_material, render
from blend.errors import RequestError
from tests.support.word_embedder import WordEmbedder

FACTS = {
    "into which sea does the rhine flow": "The Rhine flows into the North Sea.",
    "where does the danube rise": "The Danube rises in the Black Forest.",
    "who wrote faust": "Faust was written by Goethe.",
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "facts.jsonl.gz"
    rows = [
        {"question": question, "answers": ["x"], "title": "", "text": text}
        for question, text in FACTS.items()
    ]
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text(
        "".join(json.dumps({"title": f"{i}", "text": f"note {i} on fish"}) + "\n" for i in range(50))
    )
    return path


def test_every_question_has_its_passage_and_others_fill_up(data: Path, corpus: Path) -> None:
    material = read_material(data, corpus, passages=20, questions=2, seed=0)
    assert len(material.passages) == 20
    for question, row in material.questions:
        assert material.passages[row] == FACTS[question]
    assert read_material(data, corpus, 20, 2, seed=0) == material
    assert read_material(data, corpus, 20, 2, seed=1) != material
    assert len(read_material(data, None, passages=1, questions=3, seed=0).passages) == 3


def test_ranks_are_counted_for_every_method(data: Path, corpus: Path, tmp_path: Path) -> None:
    material = read_material(data, corpus, passages=40, questions=3, seed=0)
    told: list[tuple[int, int, str]] = []
    arms = find_all(
        make_collection(tmp_path, material, WordEmbedder(), lambda *count: told.append(count)), material
    )
    assert [arm.name.split(",")[0] for arm in arms] == ["dense", "dense", "dense", "bm25", "fused"]
    by_words = next(arm for arm in arms if arm.name == "bm25")
    assert by_words.ranks == (1, 1, 1)
    assert (by_words.recall(5), by_words.of_exact) == (1.0, None)
    flat = next(arm for arm in arms if "flat" in arm.name)
    assert flat.of_exact == 1.0
    assert flat.ranks == arms[0].ranks
    assert all(len(arm.ms) == 3 for arm in arms)
    assert told == [(40, 40, "passages embedded")]
    assert "100.0%" in render(arms)


class Echo:
    """Prefers texts that share words with the query."""

    name = "echo"

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        return [float(len(set(query.split()) & set(text.lower().rstrip(".").split()))) for text in texts]


def test_a_re_ranker_is_an_arm_of_its_own(data: Path, corpus: Path, tmp_path: Path) -> None:
    material = read_material(data, corpus, passages=40, questions=3, seed=0)
    made = make_collection(tmp_path, material, WordEmbedder(), lambda *count: None, tmp_path / "kept")
    *_, fused, read_again = find_all(made, material, [Echo()])
    assert (fused.name, read_again.name) == ("fused", "fused, re-ranked by echo")
    assert read_again.ranks == (1, 1, 1) and read_again.of_exact is None
    again = make_collection(tmp_path, material, WordEmbedder(), lambda *count: None, tmp_path / "kept")
    assert made.passages_per_s and again.passages_per_s is None


@pytest.mark.parametrize("row", ['{"title": "x"}', "[1, 2]", "{"])
def test_rows_of_another_kind_are_refused(tmp_path: Path, data: Path, row: str) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text(row)
    with pytest.raises(RequestError, match="line 1: expected an object with title and text"):
        read_material(data, other, 10, 10, 0)


def test_data_without_questions_is_refused(corpus: Path) -> None:
    with pytest.raises(RequestError, match="50 rows without a question"):
        read_material(corpus, None, 10, 10, 0)
