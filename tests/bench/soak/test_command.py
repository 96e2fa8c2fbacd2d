"""A soak without an engine: its samples, its figures, its picture."""

import json
from collections.abc import Iterator
from itertools import count
from mmap import PAGESIZE, mmap
from pathlib import Path
from typing import Any

import pytest

from api.cli.main import main
from bench.combinations import Combination
from bench.soak import command
from bench.soak.soaking import Gauge, Sample, drift, read_gauge, soak


def samples(num: int) -> list[Sample]:
    """Times grow, memory stays."""
    ticks = count()
    asked = ((number, number + 1) for number in range(num))

    def ask(chunks: Combination) -> tuple[float, str | None]:
        return 100.0 + chunks[0], None if chunks[0] else "the first is too cold"

    return list(soak(asked, ask, lambda: Gauge(10, 90, 5, 1), lambda: float(next(ticks))))


def test_each_request_leaves_a_sample() -> None:
    first, second = samples(2)
    assert (first.number, first.at_s, first.ttft_ms, first.chunks) == (0, 1.0, 100.0, (0, 1))
    assert (second.number, second.at_s, second.fallback) == (1, 2.0, None)
    assert first.fallback == "the first is too cold"
    assert first.gauge.memory_bytes == 100


def test_a_sample_is_there_before_the_next_is_asked() -> None:
    asked: list[Combination] = []

    def ask(chunks: Combination) -> tuple[float, str | None]:
        asked.append(chunks)
        return 1.0, None

    running: Iterator[Sample] = soak([(0,), (1,)], ask, lambda: Gauge(1, 1, 1, 1), lambda: 0.0)
    next(running)
    assert asked == [(0,)]


@pytest.mark.parametrize(("num", "first", "last"), [(1, 0, 0), (3, 0, 2), (10, 2, 7), (1000, 49.5, 949.5)])
def test_drift_holds_the_first_hundred_against_the_last(num: int, first: float, last: float) -> None:
    found = drift([float(value) for value in range(num)])
    assert (found.first, found.last, found.max) == (first, last, num - 1)


def test_the_gauge_reads_this_process_and_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one").write_bytes(bytes(10))
    (tmp_path / "two").write_bytes(bytes(5))
    before = read_gauge(tmp_path)
    assert (before.store_files, before.store_bytes) == (2, 15)
    with mmap(-1, 2**26) as held:  # memory from malloc may be some that this process had already
        for page in range(0, len(held), PAGESIZE):
            held[page] = 1
        grown = read_gauge(tmp_path).own_bytes - before.own_bytes
        assert grown == pytest.approx(len(held), rel=0.2)


def test_the_command_prints_table_and_line_and_keeps_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def measure(args: Any) -> list[Sample]:
        asked.append(args)
        return samples(300)

    monkeypatch.setattr(command, "_measure", measure)
    assert main(["bench", "soak", "--combinations", "300", "--out", str(tmp_path / "out")]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    line = json.loads(last)
    assert (line["bench"], line["n"], line["blended"]) == ("soak", 300, 299)
    assert line["fallbacks"] == ["the first is too cold"]
    assert (line["ttft_ms"]["first"], line["ttft_ms"]["last"]) == (149.5, 349.5)
    assert line["ttft_ms"]["ratio"] == pytest.approx(349.5 / 149.5)
    assert line["memory_bytes"] == {"first": 100, "last": 100, "max": 100, "ratio": 1.0}
    assert table[1].split() == ["ttft_ms", "150", "350", "399", "2.338"]
    names = ["result.json", "soak.png", "table.txt"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == names
    assert len(json.loads((tmp_path / "out" / "result.json").read_text())["samples"]) == 300
    assert (asked[0].pool, asked[0].passages) == (24, 6)


def test_more_combinations_than_there_are_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "soak", "--pool", "3", "--passages", "2", "--combinations", "7"]) == 1
    assert "got 7 combinations, expected at most 6" in capsys.readouterr().err
