"""What users and programs see of a job."""

import io
import json

import pytest
from rich.console import Console

from precompute.events import (
    Computed,
    Embedded,
    Event,
    FileRead,
    FileUnreadable,
    Finished,
    Notice,
    Planned,
    Started,
)
from precompute.progress import Bar, JsonLines, PlainLines, open_report

FINISHED = Finished("docs", 2, 5, 3, 2, 1, 2500, 1500, 3_000_000, 4.0, 500.0, 1, 0)
EVENTS: list[Event] = [
    Started("docs", 3),
    FileRead(1, 3),
    FileUnreadable("b[old].pdf", "encrypted"),
    Notice("the prefix has changed: rebuilding the collection"),
    Planned(2, 5, 2, 3, 1500),
    Computed(1, 3, 500, 1500, 1_000_000, 1.0),
    Computed(3, 3, 1500, 1500, 3_000_000, 3.0),
    Embedded(3, 3),
    FINISHED,
]


def test_json_lines_carry_everything_and_unreadable_files_are_named_beside_them() -> None:
    out, err = io.StringIO(), io.StringIO()
    for event in EVENTS:
        JsonLines(out, err)(event)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line.pop("event") for line in lines] == [
        *["started", "file_read", "file_unreadable", "notice", "planned"],
        *["computed", "computed", "embedded", "finished"],
    ]
    assert lines[5]["tokens_per_s"] == 500.0
    assert lines[5]["left_s"] == 2.0
    assert Finished(**lines[-1]) == FINISHED
    assert err.getvalue() == "unreadable: b[old].pdf: encrypted\n"


def test_plain_lines_are_few_and_the_summary_alone_is_on_standard_output() -> None:
    out, err = io.StringIO(), io.StringIO()
    report = PlainLines(out, err)
    for event in EVENTS:
        report(event)
    assert err.getvalue().splitlines() == [
        "docs: 3 files",
        "unreadable: b[old].pdf: encrypted",
        "the prefix has changed: rebuilding the collection",
        "2 documents, 5 chunks: 2 stored already, 3 to compute (1,500 tokens)",
        "computed 3/3 chunks, 500 tokens/s, 3.0 MB, 0:00 left",
    ]
    assert out.getvalue().splitlines() == [
        "docs: 2 documents, 5 chunks (3 computed, 2 reused, 1 dropped), 2,500 tokens; "
        "1 files unreadable, 0 binary files skipped",
        "computed 1,500 tokens (each counted once for all versions of its chunk), 3.0 MB, at 500 tokens/s; "
        "4.0 s in all",
    ]


def test_the_bar_shows_figures_and_leaves_the_lines_that_matter(capsys: pytest.CaptureFixture[str]) -> None:
    screen = io.StringIO()
    with Bar(Console(file=screen, force_terminal=True, width=100)) as bar:
        for event in EVENTS:
            bar(event)
            bar._progress.refresh()
    shown = screen.getvalue()
    assert "1/3 chunks, 500 tokens/s, 1.0 MB, 0:02 left" in shown
    assert "b[old].pdf" in shown
    assert "5 chunks (3 computed" in capsys.readouterr().out


def test_output_that_is_no_terminal_gets_plain_lines() -> None:
    with open_report(as_json=False) as report:
        assert isinstance(report, PlainLines)
    with open_report(as_json=True) as report:
        assert isinstance(report, JsonLines)


def test_a_rate_of_nothing_is_zero() -> None:
    assert Computed(0, 0, 0, 0, 0, 0.0).tokens_per_s == 0.0
    assert Computed(0, 2, 0, 9, 0, 1.0).left_s == 0.0
