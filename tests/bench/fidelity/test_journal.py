"""A journal gives back what was written, whatever stopped the writing."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.fidelity.journal import Journal
from bench.fidelity.scores import Scores
from blend.errors import RequestError
from tests.bench.fidelity.conftest import HEADER, METHODS
from tests.bench.fidelity.test_summary import one

METHOD = METHODS[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out" / "journal.jsonl"


def write(path: Path, *questions: str) -> None:
    with Journal(path, HEADER, Scores.from_json) as journal:
        for question in questions:
            journal.add(one(question, METHOD, 1.5, selected=(1, 2), key_error=(0.5,)))


def keys(path: Path) -> list[str]:
    with Journal(path, HEADER, Scores.from_json) as journal:
        return [one.question for one in journal.scores((key, METHOD) for key in ("a", "b", "c"))]


def test_what_was_written_is_known_again(path: Path) -> None:
    write(path, "a", "b")
    with Journal(path, HEADER, Scores.from_json) as journal:
        assert ("a", METHOD) in journal and ("c", METHOD) not in journal
        assert ("a", replace(METHOD, ratio=0.2)) not in journal
        assert journal.scores([("b", METHOD)])[0].selected == (1, 2)
    write(path, "c")
    assert keys(path) == ["a", "b", "c"]


@pytest.mark.parametrize("torn_bytes", [1, 2, 40])
def test_a_run_killed_while_it_wrote_a_line_loses_that_line_alone(path: Path, torn_bytes: int) -> None:
    write(path, "a", "b")
    path.write_bytes(path.read_bytes()[:-torn_bytes])
    write(path, "c")
    assert keys(path) == ["a", "c"]


def test_a_run_killed_while_it_wrote_the_header_begins_anew(path: Path) -> None:
    write(path)
    path.write_bytes(path.read_bytes()[:10])
    write(path, "a")
    assert keys(path) == ["a"]


def test_a_journal_of_other_settings_is_refused_by_name(path: Path) -> None:
    write(path, "a")
    with pytest.raises(RequestError, match=r"got max_tokens 9 \(there: 4\), seed 1 \(there: 0\); use"):
        Journal(path, replace(HEADER, max_tokens=9, seed=1), Scores.from_json)
    assert keys(path) == ["a"]


def test_the_same_model_and_data_under_other_names_go_on(path: Path) -> None:
    write(path, "a")
    with Journal(path, replace(HEADER, model="elsewhere", data="other.jsonl"), Scores.from_json) as journal:
        assert ("a", METHOD) in journal


@pytest.mark.parametrize("line", ["no json\n", "[]\n", '{"question": "a"}\n'])
def test_a_damaged_line_in_the_middle_is_named(path: Path, line: str) -> None:
    write(path, "a")
    with path.open("a") as file:
        file.write(line)
    with pytest.raises(RequestError, match="line 3 of .* is damaged"):
        Journal(path, HEADER, Scores.from_json)


def test_a_file_that_is_no_journal_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("my notes\n")
    with pytest.raises(RequestError, match="is no journal of a run"):
        Journal(path, HEADER, Scores.from_json)
    assert path.read_text() == "my notes\n"


def test_two_runs_cannot_write_one_journal(path: Path) -> None:
    with Journal(path, HEADER, Scores.from_json), pytest.raises(RequestError, match="another run is writing"):
        Journal(path, HEADER, Scores.from_json)
    assert keys(path) == []


def test_a_folder_that_cannot_be_written_is_the_callers_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="cannot write"):
        Journal(tmp_path / "file" / "journal.jsonl", HEADER, Scores.from_json)
