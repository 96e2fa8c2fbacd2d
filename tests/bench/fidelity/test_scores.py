"""What is made of one outcome."""

import json
from dataclasses import replace

import pytest
import torch

from bench.fidelity.methods import Method
from bench.fidelity.question import Question
from bench.fidelity.run import LabSettings, prompt_builder
from bench.fidelity.scores import Scores, score
from blend.errors import ModelError
from tests.bench.fidelity.conftest import METHODS
from tests.reference.random_backend import RandomBackend

EVERYTHING = Method("all", "alone", "all", 1.0)


def scored(question: Question, method: Method) -> Scores:
    backend = RandomBackend()
    prompt = prompt_builder(backend.tokenizer, LabSettings())(question)
    reference = backend.reference(prompt, 4)
    return score(prompt, reference, method, backend.measure(prompt, reference, method))


def test_recomputing_everything_scores_as_full_prefill(questions: list[Question]) -> None:
    scores = scored(questions[0], EVERYTHING)
    assert scores.kl_mean == pytest.approx(0, abs=1e-9) and scores.kl_first == pytest.approx(0, abs=1e-9)
    assert scores.top1 == 1.0 and scores.match_tokens == scores.answer_tokens == 4
    assert not scores.catastrophic and scores.gold_margin == 0.0
    assert scores.key_error == (0.0, 0.0, 0.0)


def test_answers_are_held_against_gold_beside_full_prefills(questions: list[Question]) -> None:
    scores = scored(questions[0], METHODS[2])
    assert (scores.full_f1, scores.full_em, scores.full_ms) == (1.0, 1.0, 100.0)
    assert (scores.f1, scores.em, scores.text, scores.full_text) == (0, 0, "something else", "the cache")
    assert scores.gold_margin == pytest.approx(-0.85)
    assert scores.kl_mean > 0


def test_scores_outlive_json(questions: list[Question]) -> None:
    for method in METHODS:
        scores = scored(questions[1], method)
        assert Scores.from_json(json.loads(json.dumps(scores.to_json()))) == scores


def test_an_unknown_gold_answer_has_no_margin(questions: list[Question]) -> None:
    backend = RandomBackend()
    prompt = prompt_builder(backend.tokenizer, LabSettings())(questions[0])
    reference = backend.reference(prompt, 4)
    outcome = replace(backend.measure(prompt, reference, METHODS[2]), gold_logprob=None)
    assert score(prompt, reference, METHODS[2], outcome).gold_margin is None


def test_a_model_whose_numbers_are_broken_is_not_scored(questions: list[Question]) -> None:
    backend = RandomBackend()
    prompt = prompt_builder(backend.tokenizer, LabSettings())(questions[0])
    reference = backend.reference(prompt, 4)
    outcome = backend.measure(prompt, reference, METHODS[2])
    broken = replace(outcome, logprobs=torch.full_like(outcome.logprobs, torch.nan))
    with pytest.raises(ModelError, match="numbers are broken"):
        score(prompt, reference, METHODS[2], broken)
