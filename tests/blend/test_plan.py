"""The plan of a blend, as integers."""

from blend.chunk import make_record
from blend.plan import make_plan

PREFIX = make_record("m", (), (1, 2))
A = make_record("m", (1, 2), (10, 11, 12))
B = make_record("m", (1, 2), (20, 21))


def test_prefix_and_the_first_chunk_behind_it_are_exact_and_later_ones_are_not() -> None:
    plan = make_plan((1, 2, 10, 11, 12, 20, 21, 30), [(0, PREFIX), (2, A), (5, B)])
    assert [span.exact for span in plan.spans] == [True, True, False]
    assert plan.num_tokens == 7
    assert plan.gaps == ()


def test_whatever_lies_between_chunks_is_a_gap() -> None:
    plan = make_plan((1, 2, 10, 11, 12, 5, 6, 20, 21, 30, 31), [(2, A), (7, B)])
    assert plan.gaps == ((0, 2), (5, 7))
    assert plan.token_ids == (1, 2, 10, 11, 12, 5, 6, 20, 21)


def test_a_chunk_that_ends_the_prompt_leaves_its_last_token_to_the_engine() -> None:
    plan = make_plan(A.token_ids, [(0, A)])
    assert plan.token_ids == (10, 11)
    assert plan.spans[0].stop == 3
    assert plan.gaps == ()


def test_a_chunk_of_one_token_that_ends_the_prompt_is_no_chunk_at_all() -> None:
    one = make_record("m", (), (7,))
    plan = make_plan((10, 11, 12, 7), [(0, A), (3, one)])
    assert [span.record for span in plan.spans] == [A]
    assert make_plan((7,), [(0, one)]).spans == ()


def test_nothing_known_is_an_empty_plan() -> None:
    plan = make_plan((1, 2, 3), [])
    assert (plan.num_tokens, plan.spans, plan.gaps) == (0, (), ())
