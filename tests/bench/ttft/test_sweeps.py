"""Which cases a sweep consists of."""

import pytest

from bench.ttft.case import Case
from bench.ttft.sweeps import SWEEPS, cases_of
from blend.errors import RequestError

ROOM = 8000


def test_the_default_run_has_the_case_that_was_asked_for() -> None:
    base = Case(chunks=3, tokens=128)
    assert cases_of("compare", base, None, ROOM) == [base]
    assert cases_of("conversation", base, None, ROOM) == [base]


def test_chunks_of_three_sizes_as_many_as_fit() -> None:
    pairs = [(case.chunks, case.tokens) for case in cases_of("chunks", Case(), None, ROOM)]
    assert [chunks for chunks, tokens in pairs if tokens == 128] == [2, 4, 6, 10, 14]
    assert [chunks for chunks, tokens in pairs if tokens == 512] == [2, 4, 6, 10, 14]
    assert [chunks for chunks, tokens in pairs if tokens == 1024] == [2, 4, 6]


def test_the_context_grows_to_the_model_s_limit() -> None:
    cases = cases_of("context", Case(), None, ROOM)
    assert [case.chunk_tokens for case in cases] == [1024, 2048, 4096, 15 * 512]


def test_what_is_known_and_where_it_comes_from_and_what_comes_together() -> None:
    assert [case.known for case in cases_of("known", Case(), None, ROOM)] == [0, 0.25, 0.5, 0.75, 1]
    tiers = [case.tier for case in cases_of("tier", Case(), None, ROOM)]
    assert tiers == ["memory", "disk-warm", "disk-cold"]
    assert [case.at_once for case in cases_of("together", Case(), None, ROOM)] == [8]


def test_points_take_the_place_of_the_sweep_s_own() -> None:
    base = Case(chunks=3, tokens=128)
    assert cases_of("chunks", base, ["2x64"], ROOM) == [Case(2, 64)]
    assert [case.chunks for case in cases_of("context", base, ["256", "512"], ROOM)] == [2, 4]
    assert [case.known for case in cases_of("known", base, ["0.5"], ROOM)] == [0.5]
    assert [case.at_once for case in cases_of("together", base, ["2", "3"], ROOM)] == [2, 3]


@pytest.mark.parametrize(
    ("sweep", "points", "message"),
    [
        ("compare", ["1"], "expected none"),
        ("chunks", ["4"], "got ''"),
        ("chunks", ["0x5"], "got '0'"),
        ("context", ["many"], "got 'many'"),
        ("known", ["1.5"], "share from 0 to 1"),
        ("known", ["x"], "share from 0 to 1"),
        ("tier", ["tape"], "expected one of: memory"),
        ("together", ["-1"], "got '-1'"),
        ("chunks", ["2x64", "20x1024"], "20520 tokens of chunks, expected at most 8000"),
        ("context", ["16384"], "expected at most 8000"),
    ],
)
def test_points_that_are_none_are_refused(sweep: str, points: list[str], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        cases_of(sweep, Case(), points, ROOM)


def test_a_case_that_does_not_fit_is_refused_in_every_sweep() -> None:
    for sweep in set(SWEEPS) - {"chunks", "context"}:
        with pytest.raises(RequestError, match="use fewer or shorter chunks"):
            cases_of(sweep, Case(chunks=2, tokens=5000), None, ROOM)
