"""A run: every method measured on every question, less what the journal knows. The main path."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.fidelity.backend import Backend
from bench.fidelity.journal import Journal
from bench.fidelity.methods import Method
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


def run(
    backend: Backend,
    questions: Sequence[Question],
    methods: Sequence[Method],
    journal: Journal[Scores],
    settings: LabSettings | None = None,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> list[Scores]:
    """Measure what the journal lacks.

    Args:
        questions: of different keys.
        journal: written to after each measurement.
        progress: called before the first measurement and after each, see `bench.progress`.

    Returns:
        All scores of these questions and methods, method by method.

    Raises:
        RequestError: a prompt cannot be built, or is too long for the model.
        ModelError: the model's numbers are broken.
    """
    settings = settings or LabSettings()
    build = prompt_builder(backend.tokenizer, settings)
    missing = {
        question.key: [method for method in methods if (question.key, method) not in journal]
        for question in questions
    }
    total = len(questions) * len(methods)
    done = total - sum(map(len, missing.values()))
    progress(done, total, "measurements")
    for question in questions:
        if not missing[question.key]:
            continue
        prompt = build(question)
        reference = backend.reference(prompt, settings.max_tokens)
        for method in missing[question.key]:
            outcome = backend.measure(prompt, reference, method)
            journal.add(score(prompt, reference, method, outcome))
            done += 1
            progress(done, total, "measurements")
    return journal.scores((question.key, method) for method in methods for question in questions)


def prompt_builder(tokenizer: Any, settings: LabSettings) -> Callable[[Question], LabPrompt]:
    """The function that makes prompts of questions for a model.

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
