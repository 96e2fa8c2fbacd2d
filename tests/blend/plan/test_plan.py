"""The plan of a blend, as integers."""

from blend.chunks.chunk import make_record
from blend.plan.plan import REPEAT_TOKENS, EchoedRows, make_plan

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


def test_rows_whose_text_stood_before_are_taken_from_the_echo() -> None:
    text = tuple(range(100, 110))
    first, second = make_record("m", (1,), text), make_record("m", (1,), (50, *text, 51))
    echo = make_record("m", (1, *second.token_ids), second.token_ids)
    prompt = (1, *first.token_ids, 3, *second.token_ids, 4)
    known = {first.chunk_id: first, second.chunk_id: echo}
    found = [(1, first), (12, second)]
    plan = make_plan(prompt, found, lambda record: known[record.chunk_id])
    assert [span.echoed for span in plan.spans] == [None, EchoedRows(echo, ((REPEAT_TOKENS, 11),))]
    assert [span.records for span in plan.spans] == [(first,), (second, echo)]
    assert [span.echoed for span in make_plan(prompt, found).spans] == [None, None]
    assert make_plan(prompt, found, lambda _: None) == make_plan(prompt, found)


def test_an_exact_chunk_has_no_rows_of_its_echo() -> None:
    text = tuple(range(100, 110))
    chunk = make_record("m", text, text)
    assert make_plan((*text, *text, 3), [(10, chunk)], lambda record: record).spans[0].echoed is None


def test_nothing_known_is_an_empty_plan() -> None:
    plan = make_plan((1, 2, 3), [])
    assert (plan.num_tokens, plan.spans, plan.gaps) == (0, (), ())
