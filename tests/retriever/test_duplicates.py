"""Near-duplicates: which texts count as one."""

import pytest

from retriever.duplicates import without_duplicates

SENTENCE = "The Danube rises in the Black Forest and flows through ten countries to the Black Sea every day"


def kept(*texts: str) -> list[int]:
    return list(without_duplicates(range(len(texts)), texts.__getitem__))


@pytest.mark.parametrize(
    "other",
    [
        SENTENCE,
        SENTENCE.upper(),
        SENTENCE.replace(" ", "\n  ") + ".",
        SENTENCE + " indeed",
    ],
)
def test_a_text_that_says_nearly_the_same_is_left_out(other: str) -> None:
    assert kept(SENTENCE, other) == [0]


@pytest.mark.parametrize(
    "other",
    [
        "The Rhine rises in the Swiss Alps and flows through six countries to the North Sea",
        " ".join(reversed(SENTENCE.split())),
        SENTENCE + " and " + "then it goes on for as many words again that nobody has read before today",
        SENTENCE.replace("Forest", "Wood").replace("ten", "some"),
    ],
)
def test_a_text_that_says_something_else_stays(other: str) -> None:
    assert kept(SENTENCE, other) == [0, 1]


def test_rows_that_differ_in_a_number_alone_stay() -> None:
    rows = [f"{SENTENCE} in the year {year}, {SENTENCE.lower()}" for year in (1990, 1991)]
    assert kept(*rows) == [0, 1]


def test_short_texts_and_texts_without_words() -> None:
    assert kept("yes", "Yes!", "no", "---", "***") == [0, 2, 3, 4]


def test_the_better_ranked_one_stays_and_the_rest_is_not_read() -> None:
    texts = [SENTENCE, SENTENCE.upper(), "other words"]
    read = []

    def text_of(row: int) -> str:
        read.append(row)
        return texts[row]

    rows = without_duplicates([1, 0, 2], text_of)
    assert next(rows) == 1
    assert read == [1]
    assert list(rows) == [2]
