"""The choice that follows from scores."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blend.chunks.chunk import make_record
from blend.errors import RequestError
from blend.plan.plan import BlendPlan, make_plan
from blend.select.choose import choose, open_inexact
from tests.reference import choosing

PREFIX = (1, 2)
EXACT = make_record("m", PREFIX, (10, 11, 12))
MOVED = make_record("m", PREFIX, (20, 21, 22, 23))
# 0 1 gap | 2 3 4 exact chunk | 5 gap | 6 7 8 9 moved chunk | 10 the question
PLAN = make_plan((*PREFIX, *EXACT.token_ids, 5, *MOVED.token_ids, 30), [(2, EXACT), (6, MOVED)])
GAPS = torch.tensor([True, True, False, False, False, True, False, False, False, False])
RISING = torch.arange(10.0)


@st.composite
def choices(draw: st.DrawFn) -> tuple[BlendPlan, int, list[float], list[bool], float]:
    start = draw(st.integers(0, PLAN.num_tokens))
    num_rows = PLAN.num_tokens - start
    # Few distinct scores: ties everywhere.
    scores = draw(st.lists(st.sampled_from([0.0, 1.0, 2.5, math.inf]), min_size=num_rows, max_size=num_rows))
    cold = draw(st.lists(st.booleans(), min_size=num_rows, max_size=num_rows))
    return PLAN, start, scores, cold, draw(st.floats(0, 1))


@given(choices())
def test_chooses_what_sorting_a_list_chooses(
    choice: tuple[BlendPlan, int, list[float], list[bool], float],
) -> None:
    plan, start, scores, cold, ratio = choice
    got = choose(plan, start, torch.tensor(scores), torch.tensor(cold, dtype=torch.bool), ratio)
    assert got.dtype == torch.int64
    assert got.tolist() == choosing.choose(plan, start, scores, cold, ratio)


def test_cold_rows_are_in_at_ratio_zero() -> None:
    assert choose(PLAN, 0, RISING, GAPS, 0.0).tolist() == [0, 1, 5]


def test_cold_rows_count_towards_the_budget() -> None:
    assert choose(PLAN, 0, RISING, GAPS, 0.3).tolist() == [0, 1, 5]
    assert choose(PLAN, 0, RISING, GAPS, 0.4).tolist() == [0, 1, 5, 9]


def test_exact_rows_are_never_picked() -> None:
    assert choose(PLAN, 0, -RISING, GAPS, 1.0).tolist() == [0, 1, 5, 6, 7, 8, 9]


def test_exact_rows_that_could_not_be_read_are_computed() -> None:
    assert choose(PLAN, 0, RISING, torch.ones(10, dtype=torch.bool), 0.0).tolist() == list(range(10))


def test_positions_are_absolute_when_the_context_starts_later() -> None:
    assert choose(PLAN, 5, RISING[5:], GAPS[5:], 0.4).tolist() == [5, 9]


def test_ties_go_to_the_earlier_position() -> None:
    assert choose(PLAN, 0, torch.zeros(10), GAPS, 0.5).tolist() == [0, 1, 5, 6, 7]


@pytest.mark.parametrize("score", [math.inf, math.nan])
def test_endless_and_broken_scores_are_always_in(score: float) -> None:
    scores = RISING.clone()
    scores[7] = score
    assert choose(PLAN, 0, scores, GAPS, 0.0).tolist() == [0, 1, 5, 7]


def test_nothing_left_to_choose_from() -> None:
    nothing = torch.empty(0)
    assert choose(PLAN, 10, nothing, nothing.bool(), 0.5).tolist() == []


@pytest.mark.parametrize("ratio", [-0.01, 1.01, math.nan, math.inf])
def test_a_ratio_that_is_none_is_refused(ratio: float) -> None:
    with pytest.raises(
        RequestError, match=f"got a recompute ratio of {ratio}, expected a number from 0 to 1"
    ):
        choose(PLAN, 0, RISING, GAPS, ratio)


def test_at_ratio_one_only_what_equals_a_full_prefill_stays_closed() -> None:
    whole = torch.zeros(10, dtype=torch.bool)
    whole[2:5] = True
    assert open_inexact(PLAN, whole, 1.0) == PLAN
    whole[4] = False
    assert open_inexact(PLAN, whole, 0.99) == open_inexact(PLAN, whole, "auto") == PLAN
    opened = open_inexact(PLAN, whole, 1.0)
    assert choose(opened, 0, RISING, GAPS, 1.0).tolist() == list(range(10))
    assert choose(PLAN, 0, RISING, GAPS, 1.0).tolist() == [0, 1, 5, 6, 7, 8, 9]
