"""A run measures what is missing, once, and goes on where it was stopped."""

from pathlib import Path

import pytest

from bench.fidelity.backend import Outcome, Reference
from bench.fidelity.journal import Journal
from bench.fidelity.methods import Method
from bench.fidelity.question import LabPrompt, Question
from bench.fidelity.run import LabSettings, run
from bench.fidelity.scores import Scores
from bench.fidelity.summary import summarise
from tests.bench.fidelity.conftest import HEADER, METHODS
from tests.reference.random_backend import RandomBackend


class StoppedBackend(RandomBackend):
    """Stopped by its user after some measurements."""

    def __init__(self, num: int) -> None:
        super().__init__()
        self._left = num

    def measure(self, prompt: LabPrompt, reference: Reference, method: Method) -> Outcome:
        if not self._left:
            raise KeyboardInterrupt
        self._left -= 1
        return super().measure(prompt, reference, method)


def measured(path: Path, backend: RandomBackend, questions: list[Question]) -> list[Scores]:
    with Journal(path, HEADER, Scores.from_json) as journal:
        return run(backend, questions, METHODS, journal, LabSettings(max_tokens=4))


def test_every_question_meets_every_method(tmp_path: Path, questions: list[Question]) -> None:
    backend = RandomBackend()
    scores = measured(tmp_path / "journal.jsonl", backend, questions)
    assert [(one.question, one.method) for one in scores] == [
        (question.key, method) for method in METHODS for question in questions
    ]
    assert backend.references == [question.key for question in questions]


@pytest.mark.parametrize("stop", [0, 1, 6, 8, 23])
@pytest.mark.parametrize("torn", [False, True])
def test_a_resumed_run_ends_as_one_that_never_stopped(
    tmp_path: Path, questions: list[Question], stop: int, torn: bool
) -> None:
    path = tmp_path / "journal.jsonl"
    with pytest.raises(KeyboardInterrupt):
        measured(path, StoppedBackend(stop), questions)
    if torn:
        path.write_bytes(path.read_bytes()[:-3])
    second = RandomBackend()
    resumed = measured(path, second, questions)
    assert resumed == measured(tmp_path / "whole.jsonl", RandomBackend(), questions)
    assert len(second.measured) == len(questions) * len(METHODS) - max(stop - torn, 0)


def test_a_finished_run_asks_the_model_nothing(tmp_path: Path, questions: list[Question]) -> None:
    first = measured(tmp_path / "journal.jsonl", RandomBackend(), questions)
    backend = RandomBackend()
    assert measured(tmp_path / "journal.jsonl", backend, questions) == first
    assert not backend.references and not backend.measured


def test_more_questions_join_and_fewer_are_enough(tmp_path: Path, questions: list[Question]) -> None:
    path = tmp_path / "journal.jsonl"
    measured(path, RandomBackend(), questions[:2])
    backend = RandomBackend()
    assert len(measured(path, backend, questions)) == 4 * len(METHODS)
    assert backend.references == ["nq-2", "nq-3"]
    assert {one.question for one in measured(path, backend, questions[1:3])} == {"nq-1", "nq-2"}


def test_progress_counts_what_was_there_and_what_is_new(tmp_path: Path, questions: list[Question]) -> None:
    path = tmp_path / "journal.jsonl"
    measured(path, RandomBackend(), questions[:1])
    steps: list[tuple[int, int]] = []
    with Journal(path, HEADER, Scores.from_json) as journal:
        run(RandomBackend(), questions, METHODS, journal, None, lambda *step: steps.append(step[:2]))
    assert steps == [(done, 24) for done in range(6, 25)]


def test_the_more_is_recomputed_the_less_is_wrong(tmp_path: Path, questions: list[Question]) -> None:
    kl = {
        one.method: one.kl_mean.mean
        for one in summarise(measured(tmp_path / "j.jsonl", RandomBackend(), questions))
    }
    none, _, random, random_more, *_ = METHODS
    assert kl[none] > kl[random] > kl[random_more] > 0
