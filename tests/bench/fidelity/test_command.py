"""`kvblend bench fidelity` from its arguments to its files, with a backend that has no model."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from api.cli.main import main
from bench.fidelity import command as fidelity
from bench.fidelity.methods import Method
from blend.errors import RequestError
from tests.bench.fidelity.test_questions import NQ, write

FILES = ["journal.jsonl", "kl_by_ratio.png", "layer_errors.png", "picks.png", "result.json", "table.txt"]


def registry(names: Sequence[str] | None, ratios: Sequence[float]) -> list[Method]:
    """A floor, and methods of any name at all ratios."""
    chosen = names or ("random", "cacheblend")
    if "nonsense" in chosen:
        raise RequestError("got method 'nonsense', expected another")
    floor = Method("no context", "none", None, 0.0)
    return [floor, *(Method(name, "alone", name, ratio) for name in chosen for ratio in ratios)]


@pytest.fixture(autouse=True)
def without_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.fidelity.methods.methods", registry)
    monkeypatch.setitem(fidelity.BACKENDS, "hf", "tests.reference.random_backend:RandomBackend")


@pytest.fixture
def argv(tmp_path: Path) -> list[str]:
    data = write(tmp_path / "q.jsonl", NQ)
    flags = "bench fidelity --questions 3 --passages 2 --ratios 0.05,0.5 --model tiny --max-tokens 4 --data"
    return [*flags.split(), str(data)]


def test_the_table_comes_first_and_the_json_line_last(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 0
    captured = capsys.readouterr()
    *table, last = captured.out.splitlines()
    line = json.loads(last)
    assert list(line) == ["bench", "model", "data", "n", "full_f1", "methods"]
    assert (line["bench"], line["model"], line["data"], line["n"]) == ("fidelity", "tiny", "q.jsonl", 3)
    assert line["full_f1"] == 1.0
    assert [(one["name"], one["ratio"], one["chunks"]) for one in line["methods"]] == [
        ("no context", 0.0, "none"),
        *[(name, ratio, "alone") for name in ("random", "cacheblend") for ratio in (0.05, 0.5)],
    ]
    measures = ["kl_mean", "kl_mean_ci", "kl_first", "top1", "catastrophic", "f1", "flops_share", "ms"]
    assert all(list(one) == ["name", "ratio", "chunks", *measures] for one in line["methods"])
    low, high = line["methods"][1]["kl_mean_ci"]
    assert low <= line["methods"][1]["kl_mean"] <= high
    assert table[0].startswith("method") and "vs baseline: mean KL over that of cacheblend" in captured.out
    assert "15/15 measurements" in captured.err


def test_random_is_always_in_the_table(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*argv, "--json", "--methods", "epic,epic"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in line["methods"]] == ["no context", "epic", "epic", "random", "random"]


def test_with_json_the_line_stands_alone(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*argv, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 3


def test_the_folder_holds_everything_and_a_second_run_adds_to_it(
    argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([*argv, "--out", str(out)]) == 0
    assert sorted(file.name for file in out.iterdir()) == FILES
    assert all(file.stat().st_size > 0 for file in out.iterdir())
    first = capsys.readouterr().out.splitlines()
    assert (out / "table.txt").read_text().splitlines() == first[:-2]

    assert main([*argv, "--out", str(out), "--questions", "5", "--methods", "random,other"]) == 0
    captured = capsys.readouterr()
    assert "9/25 measurements" in captured.err
    result = json.loads((out / "result.json").read_text())
    assert {key: result[key] for key in ("n", "baseline")} == {"n": 5, "baseline": None}
    assert [one["method"]["name"] for one in result["summaries"]][1:] == [
        "random",
        "random",
        "other",
        "other",
    ]
    assert result["header"]["max_tokens"] == 4
    assert json.loads(captured.out.splitlines()[-1]).items() <= result.items()


def test_a_folder_of_another_run_is_refused(
    argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*argv, "--out", str(tmp_path / "out")]) == 0
    assert main([*argv, "--out", str(tmp_path / "out"), "--question-first"]) == 1
    assert "got question_first True (there: False)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--baseline", "oracle"], "got baseline 'oracle', expected a method of this run: cacheblend, no"),
        (["--methods", "nonsense"], "got method 'nonsense'"),
        (["--backend", "engine", "--threads", "2"], "set that instead"),
        (["--skip", "20"], "20 of them to skip"),
        (["--data", "no-such-file"], "cannot read the data file no-such-file"),
    ],
)
def test_what_went_wrong_is_one_line_and_status_1(
    argv: list[str], flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*argv, *flags]) == 1
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1 and not captured.out


@pytest.mark.parametrize(
    "flags", [["--ratios", "2"], ["--ratios", "a"], ["--questions", "0"], ["--skip", "-1"], ["--nonsense"]]
)
def test_wrong_usage_is_status_2(argv: list[str], flags: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*argv, *flags])
    assert ended.value.code == 2


def test_bench_without_a_name_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench"])
    assert ended.value.code == 2
    assert "bench" in capsys.readouterr().err


def test_the_backend_is_let_go_of_whatever_happens(
    argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.reference.random_backend import RandomBackend

    closed = []
    monkeypatch.setattr(RandomBackend, "close", lambda self: closed.append(True))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "journal.jsonl").write_text("something else\n")
    assert main([*argv, "--out", str(tmp_path / "out")]) == 1
    assert closed == [True]
