"""An allowance is spent by the calls alone, and then there is nothing left for the next."""

from types import SimpleNamespace

import pytest

from blend.store.remote import deadline as module
from blend.store.remote.deadline import Allowance


def test_only_what_calls_take_is_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now_s))
    allowance = Allowance(0.2)
    with allowance.spending() as deadline:
        assert deadline.left_s == pytest.approx(0.2)
        now_s += 0.1
    now_s += 0.3  # between calls
    with allowance.spending() as deadline:
        assert deadline.left_s == pytest.approx(0.1)
        now_s += 0.15
    with allowance.spending() as deadline:
        assert deadline.left_s == 0.0
