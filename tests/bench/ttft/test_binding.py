"""Engines with different threads are not compared."""

import pytest

from bench.ttft.binding import check_binding, disturbance
from bench.ttft.processes import Threads
from blend.errors import RequestError


def test_the_same_threads_on_the_same_cores_may_be_compared() -> None:
    assert check_binding({"plain": Threads(2, (0, 1)), "blend": Threads(2, (0, 1))}) == Threads(2, (0, 1))


@pytest.mark.parametrize("other", [Threads(1, (0,)), Threads(2, (0,)), Threads(2, (2, 3))])
def test_others_are_refused_and_both_are_named(other: Threads) -> None:
    with pytest.raises(
        RequestError, match=r"plain: 2 threads on cores 0,1; blend: \d threads.*OMP_THREADS_BIND"
    ):
        check_binding({"plain": Threads(2, (0, 1)), "blend": other})


def test_threads_that_were_not_seen_are_not_taken_for_the_same() -> None:
    with pytest.raises(RequestError, match="plain: not seen; blend: not seen"):
        check_binding({"plain": None, "blend": None})
    with pytest.raises(RequestError, match="plain: 1 threads on cores 0; blend: not seen"):
        check_binding({"plain": Threads(1, (0,)), "blend": None})


def test_an_engine_that_does_not_wait_is_named() -> None:
    assert disturbance({"plain": 0.019, "blend": 0.0}) is None
    assert "plain used 50 %" in (disturbance({"plain": 0.5, "blend": 0.0}) or "")
