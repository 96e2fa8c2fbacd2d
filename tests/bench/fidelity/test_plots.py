"""Pictures are written, and show what was measured."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from bench.fidelity import plots
from bench.fidelity.journal import Journal
from bench.fidelity.methods import Method
from bench.fidelity.plots import plot_kl, plot_layer_errors, plot_picks
from bench.fidelity.question import Question
from bench.fidelity.run import LabSettings, prompt_builder, run
from bench.fidelity.scores import Scores
from bench.fidelity.summary import summarise
from tests.bench.fidelity.conftest import HEADER, METHODS
from tests.reference.random_backend import RandomBackend

MANY = [
    Method(f"method {number}", "alone", "x", ratio) for number in range(13) for ratio in (0.05, 0.15, 1.0)
]


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory, questions: list[Question]) -> list[Scores]:
    with Journal(tmp_path_factory.mktemp("run") / "journal.jsonl", HEADER, Scores.from_json) as journal:
        return run(RandomBackend(), questions, [*METHODS, *MANY], journal)


def assert_drawn(path: Path) -> None:
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert min(image.size) > 200
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 10


def test_kl_by_ratio_is_drawn_with_many_methods_and_none_below_zero(
    tmp_path: Path, scores: list[Scores]
) -> None:
    plot_kl(summarise(scores), tmp_path / "kl.png")
    assert_drawn(tmp_path / "kl.png")


def test_layer_errors_are_drawn_where_they_are_known(tmp_path: Path, scores: list[Scores]) -> None:
    plot_layer_errors(summarise(scores), tmp_path / "layers.png")
    assert_drawn(tmp_path / "layers.png")


def test_picks_of_one_prompt_are_drawn(
    tmp_path: Path, scores: list[Scores], questions: list[Question]
) -> None:
    prompt = prompt_builder(RandomBackend().tokenizer, LabSettings())(questions[0])
    plot_picks(prompt, [one for one in scores if one.question == prompt.key], tmp_path / "picks.png")
    assert_drawn(tmp_path / "picks.png")
    plot_picks(prompt, [], tmp_path / "none.png")
    assert_drawn(tmp_path / "none.png")


def test_a_name_with_several_kinds_of_chunks_gets_a_line_for_each(scores: list[Scores]) -> None:
    summaries = summarise(scores)[2:4]
    prefixed = replace(summaries[0], method=replace(summaries[0].method, chunks="prefixed"))
    lines = plots._by_name([*summaries, prefixed])
    assert {name: len(own) for name, own in lines.items()} == {
        "random, chunks alone": 2,
        "random, chunks prefixed": 1,
    }
