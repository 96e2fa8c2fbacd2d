"""Filters on documents' metadata: what passes, and what is no filter."""

import pytest

from retriever.errors import QueryError
from retriever.filters import MAX_DEPTH, parse_filter

MANUAL = {"path": "a.md", "title": "Manual", "year": 2021, "lang": "en", "draft": False, "tags": ("x", "y")}


@pytest.mark.parametrize(
    ("kind", "key", "value", "passes"),
    [
        ("eq", "lang", "en", True),
        ("eq", "lang", "EN", False),
        ("eq", "path", "a.md", True),
        ("eq", "year", 2021.0, True),
        ("eq", "year", "2021", False),
        ("eq", "draft", False, True),
        ("eq", "draft", 0, False),
        ("eq", "year", True, False),
        ("eq", "tags", "y", True),
        ("eq", "nothing", "x", False),
        ("ne", "lang", "fr", True),
        ("ne", "nothing", "x", True),
        ("ne", "tags", "x", False),
        ("in", "lang", ["fr", "en"], True),
        ("in", "lang", [], False),
        ("nin", "lang", ["fr", "en"], False),
        ("nin", "nothing", ["x"], True),
        ("gt", "year", 2020, True),
        ("gt", "year", 2021, False),
        ("gte", "year", 2021, True),
        ("lt", "year", 2022.5, True),
        ("lte", "year", 2020, False),
        ("gte", "title", "M", True),
        ("lt", "year", "3000", False),
        ("lt", "nothing", 1, False),
        ("lt", "draft", 1, False),
    ],
)
def test_a_comparison(kind: str, key: str, value: object, passes: bool) -> None:
    assert parse_filter({"type": kind, "key": key, "value": value}).passes(MANUAL) is passes


def test_filters_are_joined() -> None:
    english, old = {"type": "eq", "key": "lang", "value": "en"}, {"type": "lt", "key": "year", "value": 2000}
    assert not parse_filter({"type": "and", "filters": [english, old]}).passes(MANUAL)
    assert parse_filter({"type": "or", "filters": [old, english]}).passes(MANUAL)
    nested = {"type": "and", "filters": [english, {"type": "or", "filters": [old, english]}]}
    assert parse_filter(nested).passes(MANUAL)


def nested(depth: int) -> object:
    inner: object = {"type": "eq", "key": "lang", "value": "en"}
    for _ in range(depth):
        inner = {"type": "and", "filters": [inner]}
    return inner


@pytest.mark.parametrize(
    ("said", "option"),
    [
        ("lang", "filter"),
        (None, "filter"),
        ({}, "filter.type"),
        ({"type": ["eq"], "key": "a", "value": 1}, "filter.type"),
        ({"type": "like", "key": "a", "value": "b"}, "filter.type"),
        ({"type": "eq", "key": "", "value": "b"}, "filter.key"),
        ({"type": "eq", "key": "a"}, "filter.value"),
        ({"type": "eq", "key": "a", "value": [1]}, "filter.value"),
        ({"type": "eq", "key": "a", "value": float("nan")}, "filter.value"),
        ({"type": "in", "key": "a", "value": "abc"}, "filter.value"),
        ({"type": "gt", "key": "a", "value": True}, "filter.value"),
        ({"type": "eq", "key": "a", "value": 1, "boost": 2}, "filter"),
        ({"type": "and", "filters": []}, "filter.filters"),
        ({"type": "and", "filters": [{"type": "eq", "key": "a", "value": 1}] * 257}, "filter.filters"),
        ({"type": "in", "key": "a", "value": [1] * 257}, "filter.value"),
        (
            {"type": "or", "filters": [nested(0), {"type": "eq", "key": 7, "value": 1}]},
            "filter.filters[1].key",
        ),
        (nested(MAX_DEPTH + 1), "filter" + ".filters[0]" * MAX_DEPTH),
    ],
)
def test_what_is_no_filter_is_refused_by_its_place(said: object, option: str) -> None:
    with pytest.raises(QueryError, match="got .*, expected|expected") as refused:
        parse_filter(said)
    assert refused.value.option == option


def test_as_deep_as_is_allowed() -> None:
    assert parse_filter(nested(MAX_DEPTH)).passes(MANUAL)
