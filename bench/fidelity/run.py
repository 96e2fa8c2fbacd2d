"""A run: every method measured on every question, what the journal knows left out. The main path."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

from bench.fidelity.backend import Backend
from bench.fidelity.journal import Journal
from bench.fidelity.method import Method
from bench.fidelity.question import DEFAULT_PREFIX, LabPrompt, Question, build_prompt
from bench.fidelity.scores import Scores, score
from blend.text.frame import ChatFrame
from blend.text.pieces import PieceTokenizer


@dataclass(frozen=True, slots=True)
class LabSettings:
    """How questions are asked.

    Attributes:
        prefix: the instruction before the documents.
        question_first: the question stands before the documents.
        max_tokens: most tokens of an answer.
    """

    prefix: str = DEFAULT_PREFIX
    question_first: bool = False
    max_tokens: int = 16


@dataclass(frozen=True, slots=True)
class Step:
    """How far a run has come.

    Attributes:
        question, questions: questions begun, and all.
        done, total: measurements, those that the journal knew included.
        measured: measurements of this run.
        seconds: since it began.
    """

    question: int
    questions: int
    done: int
    total: int
    measured: int
    seconds: float

    @property
    def left_s(self) -> float:
        """Seconds left at this run's pace; 0 when it has measured nothing yet.

        >>> Step(2, 4, done=30, total=40, measured=10, seconds=20.0).left_s
        20.0
        """
        return (self.total - self.done) * self.seconds / self.measured if self.measured else 0.0


def run(
    backend: Backend,
    questions: Sequence[Question],
    methods: Sequence[Method],
    journal: Journal,
    settings: LabSettings | None = None,
    progress: Callable[[Step], None] = lambda step: None,
) -> list[Scores]:
    """Measure what the journal does not know yet.

    Args:
        questions: of different keys.
        journal: written to after each measurement.
        progress: called before the first measurement and after each.

    Returns:
        All scores of these questions and methods, method by method.

    Raises:
        RequestError: a prompt cannot be built, or is too long for the model.
        ModelError: the model's numbers are broken.
    """
    settings = settings or LabSettings()
    build = prompt_builder(backend.tokenizer, settings)
    plan = [(question, _missing(question, methods, journal)) for question in questions]
    tell = _teller(plan, len(methods), progress)
    for number, (question, missing) in enumerate(plan, start=1):
        if not missing:
            continue
        prompt = build(question)
        reference = backend.reference(prompt, settings.max_tokens)
        for method in missing:
            outcome = backend.measure(prompt, reference, method)
            journal.add(score(prompt, reference, method, outcome))
            tell(number)
    return journal.scores([question.key for question in questions], methods)


def prompt_builder(tokenizer: Any, settings: LabSettings) -> Callable[[Question], LabPrompt]:
    """What makes prompts of questions for a model.

    Args:
        tokenizer: a Hugging Face fast tokenizer, the model's own.
    """
    return partial(
        build_prompt,
        ChatFrame(tokenizer),
        PieceTokenizer(tokenizer),
        prefix=settings.prefix,
        question_first=settings.question_first,
    )


def _missing(question: Question, methods: Sequence[Method], journal: Journal) -> list[Method]:
    return [method for method in methods if (question.key, method) not in journal]


def _teller(
    plan: Sequence[tuple[Question, list[Method]]], num_methods: int, progress: Callable[[Step], None]
) -> Callable[[int], None]:
    """Tells `progress` that one more measurement is there, given the question's number; 0 is told at once."""
    started, total = time.perf_counter(), len(plan) * num_methods
    known = total - sum(len(missing) for _, missing in plan)
    measured = count()

    def tell(question: int) -> None:
        num = next(measured)
        progress(Step(question, len(plan), known + num, total, num, time.perf_counter() - started))

    tell(0)
    return tell
