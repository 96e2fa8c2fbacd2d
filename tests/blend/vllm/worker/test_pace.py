"""A blend takes no more of a step than the step itself takes."""

import pytest

from blend.vllm.worker.pace import BACKGROUND, Pace


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock) -> Pace:
    """Has seen one step of a second."""
    pace = Pace(clock)
    pace.end()
    clock.s += 1.0
    pace.stepped()
    return pace


def slices_of(pace: Pace, clock: Clock, slice_s: float, waiting: float = 1) -> int:
    """How many slices of a length one step runs."""
    pace.begin(waiting)
    num_slices = 0
    while True:
        clock.s += slice_s
        num_slices += 1
        if not pace.may_go_on():
            return num_slices


@pytest.mark.parametrize(("slice_s", "num_slices"), [(0.1, 8), (0.3, 2), (0.4, 2), (0.41, 1), (5.0, 1)])
def test_as_many_slices_as_fit_and_one_at_least(
    pace: Pace, clock: Clock, slice_s: float, num_slices: int
) -> None:
    assert slices_of(pace, clock, slice_s - 1e-9) == num_slices


def test_each_that_waits_counts_as_much_as_all_that_decode(pace: Pace, clock: Clock) -> None:
    assert slices_of(pace, clock, 0.1 - 1e-9, waiting=8) == 64


def test_before_any_step_was_seen_one_slice_is_run(clock: Clock) -> None:
    assert slices_of(Pace(clock), clock, 1e-6) == 1


def test_a_step_that_prefilled_others_does_not_count(pace: Pace, clock: Clock) -> None:
    pace.end()
    clock.s += 60.0
    pace.stepped()
    assert slices_of(pace, clock, 0.3) == 2


def test_steps_long_ago_are_forgotten(pace: Pace, clock: Clock) -> None:
    for _ in range(8):
        pace.end()
        clock.s += 10.0
        pace.stepped()
    assert slices_of(pace, clock, 3.0) == 2


def test_a_step_without_a_forward_is_not_measured(pace: Pace, clock: Clock) -> None:
    clock.s += 1e-6
    pace.stepped()
    assert slices_of(pace, clock, 0.3) == 2


def test_what_is_computed_in_the_background_takes_half_of_what_a_blend_may(pace: Pace, clock: Clock) -> None:
    assert slices_of(pace, clock, 0.1, BACKGROUND) == slices_of(pace, clock, 0.1) // 2
