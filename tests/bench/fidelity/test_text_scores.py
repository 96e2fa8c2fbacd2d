"""Scores of texts, against numbers worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.fidelity.text_scores import exact_match, normalise, token_f1


@pytest.mark.parametrize(
    ("text", "answers", "f1", "em"),
    [
        ("Paris", ["Paris"], 1.0, True),
        ("The answer is Paris.", ["paris"], 0.5, False),
        ("October 14, 2017", ["October\xa014,\xa02017"], 1.0, True),
        ("x b c", ["c d", "b c"], 0.8, False),
        ("no no no", ["no"], 0.5, False),
        ("", ["Paris"], 0.0, False),
        ("the", ["an"], 1.0, True),
        ("London", ["Paris", "Rome"], 0.0, False),
    ],
)
def test_f1_and_exact_match(text: str, answers: list[str], f1: float, em: bool) -> None:
    assert token_f1(text, answers) == pytest.approx(f1)
    assert exact_match(text, answers) is em


@given(st.text(), st.text())
def test_f1_is_symmetric_and_one_for_an_exact_match(one: str, other: str) -> None:
    assert token_f1(one, [other]) == token_f1(other, [one])
    assert 0.0 <= token_f1(one, [other]) <= 1.0
    assert token_f1(one, [one]) == 1.0
    if exact_match(one, [other]):
        assert token_f1(one, [other]) == 1.0


@given(st.text())
def test_normalising_keeps_words_apart_and_no_more(text: str) -> None:
    assert "  " not in normalise(text) and normalise(text) == normalise(text).strip()
