"""The table stands straight, names every method, and says what its columns are."""

from pathlib import Path

import pytest

from bench.fidelity.journal import Journal
from bench.fidelity.question import Question
from bench.fidelity.run import run
from bench.fidelity.scores import Scores
from bench.fidelity.summary import Summary, summarise
from bench.fidelity.table import render_table
from tests.bench.fidelity.conftest import HEADER, METHODS
from tests.bench.fidelity.test_summary import OURS, one
from tests.reference.random_backend import RandomBackend


@pytest.fixture
def summaries(tmp_path: Path, questions: list[Question]) -> list[Summary]:
    with Journal(tmp_path / "journal.jsonl", HEADER, Scores.from_json) as journal:
        return summarise(run(RandomBackend(), questions, METHODS, journal), "random")


def test_full_prefill_stands_first_then_every_method(summaries: list[Summary]) -> None:
    head, full, *lines = render_table(summaries, "random").split("\n\n")[0].splitlines()
    assert " ".join(full.split()) == "full prefill 0 0 0 1.000 0.00 0.000 1.000 1.000 1.000 100"
    assert [line.split()[:3] for line in lines] == [
        [method.name, method.chunks, f"{method.ratio:g}"] for method in METHODS
    ]
    for name in ("KL mean", "F1", "ms"):
        edge = head.index(name) + len(name)
        assert all(line[edge - 1] != " " and line[edge : edge + 1] in ("", " ") for line in (full, *lines))


def test_intervals_and_the_baseline_are_shown_where_they_are_known(summaries: list[Summary]) -> None:
    text = render_table(summaries, "random")
    cacheblend = next(line for line in text.splitlines() if line.startswith("cacheblend"))
    reuse = next(line for line in text.splitlines() if line.startswith("reuse"))
    assert cacheblend.count("[") == 2 and reuse.count("[") == 1
    assert "mean KL over that of random at the same ratio" in text
    assert text.count("4 questions.") == 1


def test_what_is_not_known_is_a_dash_and_there_may_be_no_baseline() -> None:
    text = render_table(summarise([one("q", OURS, 0.0)]))
    assert " - " in text and "baseline:" not in text


def test_lines_without_a_method_are_a_table_still() -> None:
    assert render_table([]).startswith("method")
