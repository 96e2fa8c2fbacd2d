"""How far a run has come, where there is a terminal and where there is none."""

import sys

import pytest

from bench import progress
from bench.progress import PlainLines, open_progress


def shown(capsys: pytest.CaptureFixture[str], counts: list[int], step_s: float = 2.0) -> list[str]:
    """Lines of a run that has reached these counts, so many seconds apart."""
    times = iter(step_s * number for number in range(len(counts)))
    show = PlainLines(lambda: next(times))
    for done in counts:
        show(done, 10, "measurements")
    return capsys.readouterr().err.splitlines()


def test_plain_lines_are_few_and_the_first_and_the_last_are_among_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 15.0)
    assert shown(capsys, list(range(11))) == [
        "0/10 measurements",
        "8/10 measurements, 0:00:04 left",
        "10/10 measurements, 0:00:00 left",
    ]


def test_the_pace_is_that_of_this_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, [6, 7, 8], step_s=20.0) == [
        "6/10 measurements",
        "7/10 measurements, 0:01:00 left",
        "8/10 measurements, 0:00:40 left",
    ]


def test_a_run_with_nothing_to_do_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, [10]) == ["10/10 measurements"]


def test_a_terminal_gets_a_bar_and_standard_output_stays_clean(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_progress() as show:
        assert isinstance(show, PlainLines)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with open_progress() as show:
        assert not isinstance(show, PlainLines)
        show(5, 10, "measurements")
    assert capsys.readouterr().out == ""
