"""What is taken of a ranking: how many, how much of it fits, and what comes along."""

from hypothesis import given
from hypothesis import strategies as st

from retriever.passages import Limits, Reading, best_last, take

# Two documents: rows 0 to 4, and rows 5, 6, 2: they share a chunk.
DOCUMENTS = {"a": [0, 1, 2, 3, 4], "b": [5, 6, 2]}
TOKENS = [10, 20, 30, 40, 50, 60, 70]


def reading(row: int) -> Reading:
    name = next(name for name, rows in DOCUMENTS.items() if row in rows)
    return Reading(name, DOCUMENTS[name], DOCUMENTS[name].index(row))


def taken(ranking: list[int], **limits: int) -> list[tuple[int, ...]]:
    return take(ranking, Limits(**{"hits": 99, **limits}), reading, TOKENS.__getitem__)


def test_as_many_as_asked_for_each_on_its_own() -> None:
    assert taken([3, 2, 5, 0], hits=3) == [(3,), (2,), (5,)]


def test_as_many_as_fit_and_one_that_does_not_is_passed_over() -> None:
    assert taken([4, 6, 3, 0], tokens=100) == [(4,), (3,), (0,)]
    assert taken([6], tokens=69) == []
    assert taken([4, 3, 0], tokens=100, hits=2) == [(4,), (3,)]


def test_neighbours_stand_in_the_order_of_their_document_and_none_twice() -> None:
    assert taken([3, 1, 5], neighbours=1) == [(0, 1, 2, 3, 4), (5, 6)]
    assert taken([5, 3], neighbours=1) == [(5, 6), (2, 3, 4)]


def test_passages_that_do_not_meet_stay_apart() -> None:
    assert taken([0, 4], neighbours=1) == [(0, 1), (3, 4)]
    assert taken([4, 0], neighbours=1) == [(3, 4), (0, 1)]


def test_a_hit_that_came_as_a_neighbour_counts_as_a_hit() -> None:
    assert taken([1, 2, 5], neighbours=1, hits=2) == [(0, 1, 2, 3)]


def test_neighbours_come_nearest_first_as_far_as_they_fit() -> None:
    assert taken([2], neighbours=2, tokens=30 + 20 + 40) == [(1, 2, 3)]
    assert taken([2], neighbours=2, tokens=30 + 20) == [(1, 2)]
    assert taken([3], neighbours=2, tokens=40 + 35) == [(2, 3)], (
        "20 would fit, 50 stands between on the other side"
    )


def test_a_side_is_closed_where_a_neighbour_does_not_fit() -> None:
    assert taken([2], neighbours=2, tokens=30 + 20 + 10) == [(0, 1, 2)]
    assert taken([4], neighbours=3, tokens=50 + 39) == [(4,)], "no gap inside a passage"


def test_the_best_passage_stands_last_and_keeps_its_own_order() -> None:
    assert best_last(taken([5, 3], neighbours=1)) == [2, 3, 4, 5, 6]


@given(
    st.permutations(range(7)),
    st.integers(1, 8),
    st.one_of(st.none(), st.integers(1, 300)),
    st.integers(0, 3),
)
def test_whatever_is_asked_nothing_is_taken_twice_or_beyond_the_budget(
    ranking: list[int], hits: int, tokens: int | None, neighbours: int
) -> None:
    passages = take(ranking, Limits(hits, tokens, neighbours), reading, TOKENS.__getitem__)
    rows = [row for passage in passages for row in passage]
    assert len(rows) == len(set(rows))
    assert tokens is None or sum(TOKENS[row] for row in rows) <= tokens
    assert neighbours or len(rows) <= hits
    assert len(rows) <= hits * (2 * neighbours + 1)
