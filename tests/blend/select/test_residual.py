"""The residual, and the ratio that leaves a given one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blend.chunks.chunk import make_record
from blend.errors import RequestError
from blend.plan.plan import make_plan
from blend.select import selector
from blend.select.base import SelectorInput
from blend.select.choose import residual
from blend.select.selection import select

PREFIX = make_record("m", (), (1, 2))
A = make_record("m", PREFIX.token_ids, tuple(range(10, 16)))
B = make_record("m", PREFIX.token_ids, tuple(range(30, 37)))
# 0 .. 1 prefix (exact) | 2 .. 7 chunk A (exact) | 8 gap | 9 .. 15 chunk B | question
PLAN = make_plan((1, 2, *A.token_ids, 9, *B.token_ids, 7, 7), [(0, PREFIX), (2, A), (9, B)])
COLD = torch.tensor([i == 8 for i in range(PLAN.num_tokens)])
NONE = torch.zeros(PLAN.num_tokens, dtype=torch.bool)


def looking(paid: list[float]) -> SelectorInput:
    return SelectorInput(PLAN, 0, attention=torch.tensor([paid]))


def test_exact_and_recomputed_rows_leave_nothing() -> None:
    attention = torch.full((2, 16), 1 / 16)
    assert residual(PLAN, 0, attention, torch.tensor([8])) == pytest.approx(7 / 16)
    assert residual(PLAN, 0, attention, torch.arange(8, 16)) == 0


@given(st.lists(st.floats(0, 1), min_size=16, max_size=16), st.floats(0, 1))
@settings(deadline=None)
def test_auto_leaves_no_more_than_it_may_and_recomputes_no_more_than_it_must(
    paid: list[float], most: float
) -> None:
    rule, looked = selector("question-late"), looking(paid)
    chosen = select(looked, rule, COLD, NONE, "auto", most)
    assert chosen.residual is not None and chosen.residual <= most + 1e-6
    assert chosen.ratio == pytest.approx(len(chosen.positions) / 16)
    more = [int(i) for i in chosen.positions if not COLD[i]]
    if more:
        least = min(more, key=lambda i: paid[i])
        assert chosen.residual + paid[least] > most - 1e-6


def test_auto_needs_a_selector_that_looks_at_the_question() -> None:
    with pytest.raises(
        RequestError, match="got the ratio 'auto' with selector 'first', expected a selector that looks"
    ):
        select(SelectorInput(PLAN, 0), selector("first"), COLD, NONE, "auto", 0.1)


def test_a_selector_that_does_not_look_knows_no_residual() -> None:
    assert select(SelectorInput(PLAN, 0), selector("first"), COLD, NONE, 0.5, 0.1).residual is None


def test_what_was_computed_before_is_not_computed_again_and_leaves_nothing() -> None:
    looked, rule = looking([0.0] * 9 + [0.5, 0.25, 0.125, 0.125, 0.0, 0.0, 0.0]), selector("question-late")
    first = select(looked, rule, NONE, NONE, 0.125, 0.1)
    assert (first.positions.tolist(), first.residual) == ([9, 10], 0.25)
    computed = NONE.index_fill(0, torch.tensor([9, 12]), True)
    topped_up = select(looked, rule, NONE, computed, 3 / 16, 0.1)
    assert (topped_up.positions.tolist(), topped_up.residual) == ([10], 0.125)
    assert topped_up.ratio == pytest.approx(1 / 16)
    automatic = select(looked, rule, NONE, computed, "auto", 0.2)
    assert (automatic.positions.tolist(), automatic.ratio) == ([10], 1 / 16)
    assert select(looked, rule, NONE, computed, 1.0, 0.1).positions.tolist() == list(range(8, 16))
