"""`kvblend bench ttft` from its arguments to its files, with engines that have no model."""

import json
from pathlib import Path
from typing import Any

import pytest

from api.cli.main import main
from bench.ttft import command as ttft
from bench.ttft.sweeps import SWEEPS
from tests.bench.fidelity.test_questions import NQ, write
from tests.reference import fake_engines
from tests.reference.fake_engines import FakeEngines

ARGV = [
    "bench",
    "ttft",
    "--model",
    "tiny",
    "--chunks",
    "3",
    "--tokens",
    "64",
    "--question-tokens",
    "8",
    "--repeat",
    "2",
    "--stream",
    "4",
]


@pytest.fixture(autouse=True)
def without_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ttft, "BACKEND", "tests.reference.fake_engines:FakeEngines")


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    line: dict[str, object] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return line


def test_the_table_comes_first_and_the_json_line_last(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(ARGV) == 0
    captured = capsys.readouterr()
    *table, last = captured.out.splitlines()
    line = json.loads(last)
    assert list(line)[:3] == ["bench", "model", "core_ids"] and list(line)[-1] == "arms"
    assert (line["bench"], line["model"], line["sweep"], line["repeat"]) == ("ttft", "tiny", "compare", 2)
    assert [(one["name"], one["ratio"]) for one in line["arms"]] == [
        ("full", None),
        ("prefix caching, as given", None),
        ("prefix caching, sorted", None),
        ("reuse", 0.0),
        *[("blend", ratio) for ratio in (0.05, 0.1, 0.15, 0.2, 0.3)],
        ("again", 0.15),
    ]
    assert all(one["tier"] == "memory" and one["stages_ms"] for one in line["arms"])
    assert table[0].split()[0] == "arm" and "repetition 2/2" in captured.err


def test_sweeps_measure_the_default_ratio_and_fit_the_growth(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ARGV, "--sweep", "context", "--points", "128,256,512"]) == 0
    line = last_line(capsys)
    assert [one["ratio"] for one in line["arms"]] == [None, 0.15] * 3  # type: ignore[index, attr-defined]
    growth = line["growth"]
    assert isinstance(growth, dict) and list(growth) == ["full", "blend at 0.15"]
    assert growth["blend at 0.15"] < growth["full"] < 1.1, "fake engines take the same time for each token"


@pytest.mark.parametrize("sweep", [name for name in SWEEPS if name not in ("chunks", "context")])
def test_every_sweep_gives_arms_of_one_form(sweep: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ARGV, "--sweep", sweep, "--json"]) == 0
    arms = last_line(capsys)["arms"]
    assert isinstance(arms, list) and len({tuple(one) for one in arms}) == 1
    assert arms[0]["name"] == "full" and arms[0]["speedup"] == 1


def test_the_folder_holds_table_pictures_and_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*ARGV, "--sweep", "known", "--points", "0,1", "--out", str(tmp_path / "out")]) == 0
    *table, _, last = capsys.readouterr().out.splitlines()
    out = tmp_path / "out"
    assert sorted(file.name for file in out.iterdir()) == [
        "result.json", "stages.png", "table.txt", "ttft_by_known.png"
    ]  # fmt: skip
    assert (out / "table.txt").read_text().splitlines() == table
    assert json.loads((out / "result.json").read_text()) == json.loads(last)


def test_prompts_are_made_of_a_data_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ARGV, "--data", str(write(tmp_path / "q.jsonl", NQ)), "--json"]) == 0
    assert last_line(capsys)["data"] == "q.jsonl"


def test_every_tier_is_measured_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = []

    class Remembering(FakeEngines):
        def __init__(self, *args: Any, redis: str | None = None, **more: Any) -> None:
            told.append(redis)
            super().__init__(*args, **more)

    monkeypatch.setattr(fake_engines, "FakeEngines", Remembering)
    flags = ["--sweep", "tier", "--points", "device,redis,memory", "--redis", "redis://some:1/0"]
    assert main([*ARGV, *flags]) == 0
    arms = last_line(capsys)["arms"]
    assert isinstance(arms, list) and {one["tier"] for one in arms} == {"device", "redis", "memory"}
    assert main([*ARGV, "--tier", "device"]) == 0
    assert told == ["redis://some:1/0", None]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sweep", "tier", "--points", "tape"], "got tier 'tape', expected one of: memory"),
        (["--tokens", "5000"], "use fewer or shorter chunks"),
        (["--pool", "2"], "got a pool of 2 chunks, expected at least 3"),
        (["--data", "no-such-file"], "cannot read the data file no-such-file"),
    ],
)
def test_what_went_wrong_is_one_line_and_status_1(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*ARGV, *flags]) == 1
    captured = capsys.readouterr()
    assert message in captured.err.splitlines()[-1] and not captured.out


def test_the_engines_are_stopped_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    monkeypatch.setattr(FakeEngines, "close", lambda self: closed.append(True))
    assert main([*ARGV, "--tokens", "5000"]) == 1
    assert closed == [True]
