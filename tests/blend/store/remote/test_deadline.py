"""An allowance is spent by the calls alone, and then there is nothing left for the next."""

import time

from blend.store.remote.deadline import Allowance


def test_only_what_calls_take_is_taken_off() -> None:
    allowance = Allowance(0.2)
    with allowance.spending() as deadline:
        assert 0.1 < deadline.left_s <= 0.2
        time.sleep(0.1)
    time.sleep(0.3)  # between calls
    with allowance.spending() as deadline:
        assert 0.0 < deadline.left_s <= 0.1
        time.sleep(0.15)
    with allowance.spending() as deadline:
        assert deadline.left_s == 0.0
