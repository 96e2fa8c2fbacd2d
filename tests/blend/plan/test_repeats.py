"""Text that stands in a prompt twice, found by looking everywhere."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from blend.plan.plan import repeats, within

intervals = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 4)), max_size=5).map(
    lambda pairs: [(a, a + n) for a, n in pairs]
)


@given(st.lists(st.integers(0, 2), max_size=20), st.integers(1, 4))
def test_what_stood_before_is_found(ids: list[int], num: int) -> None:
    runs = [tuple(ids[stop - num : stop]) if stop >= num else None for stop in range(1, len(ids) + 1)]
    expected = {place for place, run in enumerate(runs) if run is not None and run in runs[:place]}
    found = repeats(ids, num)
    assert {place for a, b in found for place in range(a, b)} == expected
    assert all(a < b for a, b in found)
    assert all(one[1] < other[0] for one, other in pairwise(found)), "none touch"


@given(intervals, st.integers(0, 20), st.integers(0, 10))
def test_within_keeps_what_lies_there(intervals: list[tuple[int, int]], start: int, num: int) -> None:
    kept = {start + place for a, b in within(intervals, start, start + num) for place in range(a, b)}
    assert kept == {place for a, b in intervals for place in range(a, b) if start <= place < start + num}
