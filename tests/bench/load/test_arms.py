"""Both modes of `kvblend bench load`, command and all, against an HTTP peer."""

import asyncio
import json
from pathlib import Path

import pytest

from api.cli.main import main
from bench.load import command as load
from bench.load.arms import run_one_blend
from bench.load.workload import Corpus
from blend.errors import EngineNotReady, RequestError
from tests.support.fake_vllm import FakeVllm

CORPUS = Corpus("Read.", tuple(f"chunk {number}" for number in range(4)), system_role=True)
FLAGS = "--collection docs --passages 2 --rates 20,40 --seconds 0.25 --share 0.5 --max-tokens 4"


@pytest.fixture
def argv(monkeypatch: pytest.MonkeyPatch, url: str) -> list[str]:
    monkeypatch.setattr(load, "_corpus", lambda store, name, passages: CORPUS)
    return ["bench", "load", "--base-url", url, *FLAGS.split()]


def test_both_arms_get_the_same_requests_at_each_rate(
    peer: FakeVllm, argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    peer.first_s = 0.2
    assert main([*argv, "--out", str(tmp_path / "out")]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    line = json.loads(last)
    runs = line["runs"]
    assert (line["bench"], line["collection"], line["chunks"]) == ("load", "docs", 4)
    assert [(one["rate"], one["arm"]) for one in runs] == [
        *[(20.0, "blend"), (20.0, "full"), (40.0, "full"), (40.0, "blend")]
    ]
    assert [one["failed"] for one in runs] == [0] * 4
    assert runs[0]["sent"] == runs[1]["sent"] > 0
    assert all((one["blended_share"] > 0) == (one["arm"] == "blend") for one in runs)
    by_arm = {one["arm"]: one["ttft_ms"]["p50"] for one in runs[:2]}
    assert by_arm["full"] > by_arm["blend"]
    assert table[0].split()[:2] == ["arm", "requests/s"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["result.json", "table.txt"]

    salts = [body["cache_salt"] for _, body in peer.bodies[2:]]  # the first two warm up
    assert len(set(salts)) == 4
    asked = {
        salt: sorted(body["messages"][-1]["content"] for _, body in peer.bodies if body["cache_salt"] == salt)
        for salt in salts
    }
    first, second, *_ = asked.values()
    assert first == second


def test_a_server_that_refuses_is_one_line_and_status_1(
    argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = Corpus("Read.", ("refuse", "refuse"), system_role=True)
    monkeypatch.setattr(load, "_corpus", lambda store, name, passages: refused)
    assert main(argv) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("kvblend: the first request failed: BadRequestError") and not captured.out


def test_one_blend_watches_another_request_decode(
    peer: FakeVllm, argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    peer.blended_first_s, peer.first_s, peer.next_s = 0.03, 0.1, 0.005
    flags = ["--one-blend", "--repetitions", "2", "--decode-tokens", "60", "--json"]
    assert main([*argv, *flags]) == 0
    line = json.loads(capsys.readouterr().out)
    alone, blend, full = line["kinds"]
    assert [one["kind"] for one in line["kinds"]] == ["alone", "blend", "full"]
    assert alone["itl_ms"]["num"] == 2 * (60 - 16) and alone["p99_over_alone"] == 1.0
    assert alone["ttft_ms"] is None
    assert 0 < blend["itl_ms"]["num"] < full["itl_ms"]["num"] < 2 * 44
    assert (alone["blended"], blend["blended"], full["blended"]) == (0, 2, 0)
    assert full["ttft_ms"] > blend["ttft_ms"] >= 30


def test_a_long_answer_that_is_too_short_is_an_error_and_so_is_one_that_fails(
    peer: FakeVllm, url: str
) -> None:
    peer.next_s = 0.005

    def watch(decode_tokens: int, corpus: Corpus = CORPUS) -> None:
        asyncio.run(run_one_blend(url, corpus, 2, 1, decode_tokens, 0, 5.0))

    with pytest.raises(RequestError, match="--decode-tokens"):
        watch(17)
    with pytest.raises(EngineNotReady, match="first request failed"):
        watch(60, Corpus("", ("go wrong", "chunk"), system_role=True))


def test_prompts_are_written_for_other_tools(
    argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "prompts.jsonl"
    assert main([*argv, "--write-prompts", str(file)]) == 0
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert capsys.readouterr().out == f"{len(rows)} prompts in {file}\n"
    assert rows and all(row["output_tokens"] == 4 and row["prompt"].count("chunk") == 2 for row in rows)


def test_a_servers_chunks_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "load", "--base-url", "http://127.0.0.1:9"]) == 1
    assert "expected --collection" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags", [["--rates", "0"], ["--rates", ","], ["--share", "2"], ["--zipf", "-1"], ["--seconds", "no"]]
)
def test_wrong_usage_is_status_2(flags: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "load", *flags])
    assert ended.value.code == 2
