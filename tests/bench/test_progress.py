"""How far a run has come, where there is a terminal and where there is none."""

import io
import sys

import pytest

from bench import progress
from bench.fidelity.run import Step
from bench.progress import PlainLines, open_progress

STEPS = [Step(min(1 + n // 2, 5) if n else 0, 5, n, 10, n, 2.0 * n) for n in range(11)]


def test_plain_lines_are_few_and_the_first_and_the_last_are_among_them() -> None:
    out = io.StringIO()
    show = PlainLines(out)
    for step in STEPS:
        show(step)
    assert out.getvalue().splitlines() == [
        "question 0/5, 0/10 measurements, no pace yet",
        "question 5/5, 10/10 measurements, 0:00:00 left",
    ]


def test_every_step_gets_a_line_where_steps_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    out = io.StringIO()
    show = PlainLines(out)
    for step in STEPS:
        show(step)
    assert len(out.getvalue().splitlines()) == len(STEPS)
    assert "question 3/5, 4/10 measurements, 0:00:12 left\n" in out.getvalue()


def test_a_run_with_nothing_to_do_says_so() -> None:
    out = io.StringIO()
    PlainLines(out)(Step(0, 5, 10, 10, 0, 0.0))
    assert out.getvalue() == "question 0/5, 10/10 measurements, nothing left\n"


def test_a_terminal_gets_a_bar_and_standard_output_stays_clean(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_progress() as show:
        assert isinstance(show, PlainLines)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with open_progress() as show:
        assert not isinstance(show, PlainLines)
        show(STEPS[5])
    assert capsys.readouterr().out == ""
