"""Given answers, on batches as vLLM's sampler sees them: no engine runs."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

from blend.errors import RequestError
from blend.vllm.engine.answer import Ask
from blend.vllm.engine.forcing import ForcedAnswers
from blend.vllm.engine.thread import EngineThread
from blend.vllm.request_params import FORCED, BlendParams

VOCAB = 6
ADDED = tuple[int, SamplingParams, list[int], list[int]]


def processor() -> LogitsProcessor:
    config: Any = None
    return ForcedAnswers(config, torch.device("cpu"), False)


def added(row: int, forced: list[int] | None, written: list[int]) -> ADDED:
    return row, SamplingParams(extra_args={FORCED: forced} if forced else None), [1, 2], written


def update(size: int, *new: ADDED, removed: tuple[int, ...] = (), moved: tuple[Any, ...] = ()) -> BatchUpdate:
    return BatchUpdate(batch_size=size, removed=removed, added=new, moved=moved)


def possible(forcing: LogitsProcessor, size: int) -> list[list[int]]:
    """Tokens that each row of a batch may write."""
    logits = forcing.apply(torch.randn(size, VOCAB))
    return [row.isfinite().nonzero().flatten().tolist() for row in logits]


def test_a_forced_request_writes_its_answer_and_its_neighbour_what_it_likes() -> None:
    forcing, written = processor(), list[int]()
    assert not forcing.is_argmax_invariant()
    forcing.update_state(update(2, added(0, None, []), added(1, [5, 0, 5], written)))
    for token in (5, 0, 5):
        free = torch.randn(2, VOCAB)
        logits = forcing.apply(free.clone())
        assert torch.equal(logits[0], free[0])
        assert logits[1].argmax() == token and logits[1].isfinite().sum() == 1
        written.append(token)
        forcing.update_state(None)
    assert possible(forcing, 2)[1] == list(range(VOCAB)), "behind its end an answer is the model's own"


def test_rows_move_and_go_with_their_answers() -> None:
    forcing, everything = processor(), list(range(VOCAB))
    forcing.update_state(update(3, added(0, [1], []), added(1, None, []), added(2, [2], [])))
    forcing.update_state(update(3, moved=((0, 1, MoveDirectionality.SWAP),)))
    assert possible(forcing, 3) == [everything, [1], [2]]
    forcing.update_state(update(2, removed=(1,), moved=((2, 1, MoveDirectionality.UNIDIRECTIONAL),)))
    assert possible(forcing, 2) == [everything, [2]]
    forcing.update_state(update(2, added(1, None, [])))
    assert possible(forcing, 2) == [everything, everything]


def test_a_request_that_was_preempted_goes_on_where_it_was() -> None:
    forcing = processor()
    forcing.update_state(update(1, added(0, [3, 4], [3])))
    assert possible(forcing, 1) == [[4]]


def test_a_token_that_the_model_does_not_know_stops_nobody() -> None:
    forcing = processor()
    forcing.update_state(update(1, added(0, [VOCAB], [])))
    assert possible(forcing, 1) == [list(range(VOCAB))]


@pytest.mark.parametrize("forced", ["text", [1, -1], [1.5], [True], 7])
def test_what_is_no_answer_is_refused_where_it_comes_in(forced: Any) -> None:
    ForcedAnswers.validate_params(SamplingParams(extra_args={FORCED: [0, 5]}))
    ForcedAnswers.validate_params(SamplingParams())
    with pytest.raises(ValueError, match=FORCED):
        ForcedAnswers.validate_params(SamplingParams(extra_args={FORCED: forced}))


def test_an_engine_that_was_not_started_for_it_refuses_a_given_answer() -> None:
    thread = EngineThread.__new__(EngineThread)
    thread.llm = SimpleNamespace(
        vllm_config=SimpleNamespace(model_config=SimpleNamespace(logits_processors=None))
    )
    deltas = thread.deltas(Ask((1, 2), BlendParams(), 4, 0.0, None, forced_ids=(3,)))
    with pytest.raises(RequestError, match="logits_processors"):
        asyncio.run(anext(deltas))  # type: ignore[arg-type]
