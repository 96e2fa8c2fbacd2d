"""What is counted as a token, and against what."""

import json
from pathlib import Path
from typing import Any

import pytest

from api.cli.main import main
from bench.collection import make_collection
from bench.precompute import command
from bench.precompute.precomputing import Job, Material, Prefill
from bench.precompute.rates import make_rates
from blend.chunks.chunk import make_record
from blend.chunks.versions import Prefixes
from blend.text.lead import lead_ids
from retriever.collection import Collection
from tests.support.fake_engine import FakeEngine
from tests.support.word_embedder import WordEmbedder


def material() -> Material:
    """Two chunks of 100 tokens; the second is too long to stand behind the lead."""
    prefixes = Prefixes("m", (1, 2), lead_ids(lambda text: [3, 4]), 4096)
    plain = tuple(make_record("m", (1, 2), [number] * 100) for number in (5, 6))
    led = (make_record("m", (1, 2, 3, 4), [5] * 100),)
    return Material(("a", "b"), 100, prefixes, plain, led)


# 300 tokens of KV in 3 s, 1 s of it storing; 400 tokens prefilled in 4 s, 220 of them plain ones in 2 s.
JOB, PREFILL = Job(6.0, 3.0, 1.0, 1000), Prefill(400, 4.0, 220, 2.0)


def test_document_tokens_count_once_and_computed_ones_for_each_version() -> None:
    rates = make_rates(material(), [JOB], [PREFILL])
    assert rates == pytest.approx(
        {
            "document_tokens_per_s": 200 / 3,
            "computed_tokens_per_s": 100,
            "computing_tokens_per_s": 150,
            "whole_job_tokens_per_s": 50,
            "whole_job_document_tokens_per_s": 200 / 6,
            "prefill_tokens_per_s": 100,
            "prefill_plain_tokens_per_s": 110,
            "computed_over_prefill": 1.0,
            "computing_over_prefill": 1.5,
            "whole_job_over_prefill": 0.5,
            "document_over_prefill": 200 / 3 / 110,
        }
    )


def test_ratios_are_of_repetitions_and_then_their_median() -> None:
    slow = Job(12.0, 6.0, 2.0, 1000), Prefill(400, 8.0, 220, 4.0)
    odd = Job(6.0, 3.0, 1.0, 1000), Prefill(400, 40.0, 220, 20.0)
    jobs, prefills = zip((JOB, PREFILL), slow, odd, strict=True)
    assert make_rates(material(), jobs, prefills)["computed_over_prefill"] == pytest.approx(1.0)


def test_the_command_prints_table_and_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(args: Any) -> tuple[Material, list[Job], list[Prefill]]:
        return material(), [JOB], [PREFILL]

    monkeypatch.setattr(command, "_measure", measure)
    assert main(["bench", "precompute"]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    line = json.loads(last)
    assert (line["bench"], line["chunks"], line["document_tokens"]) == ("precompute", 2, 200)
    assert line["computed_tokens"] == 300
    assert line["computed_tokens_per_s"] == 100.0 and line["computed_over_prefill"] == 1.0
    assert table[2].split() == ["computing", "and", "storing", "67", "100", "1.000"]


def test_each_text_becomes_a_chunk_in_the_order_that_was_given(tmp_path: Path) -> None:
    texts = ["zebra one two", "apple\n\nthree", "middle four five six"]
    finished = make_collection(FakeEngine(tmp_path), WordEmbedder(), texts, tmp_path, 4)
    assert (finished.chunks, finished.computed) == (3, 3)
    assert [chunk.text for chunk in Collection.open(tmp_path, "bench").chunks] == texts
