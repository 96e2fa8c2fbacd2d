"""The table and the pictures show what was measured."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from bench.ttft.case import Case
from bench.ttft.plots import plot_known, plot_lengths, plot_stages
from bench.ttft.prompts import PromptMaker, built_in_texts
from bench.ttft.run import Plan, run
from bench.ttft.script import Script
from bench.ttft.summary import Summary, growth, summarise
from bench.ttft.table import render_table
from tests.reference.fake_engines import FakeEngines


def measure(sweep: str, *cases: Case) -> list[Summary]:
    engines = FakeEngines()
    maker = PromptMaker(engines.tokenizer, built_in_texts())
    outcome = run(engines, maker, Script(maker, (0.05, 0.15), 6), Plan(sweep, cases, 2, 4))
    return summarise(outcome.measured, engines.shape)


@pytest.mark.parametrize("plot", [plot_stages, plot_lengths, plot_known])
def test_pictures_are_drawn(plot: Callable[[Sequence[Summary], Path], None], tmp_path: Path) -> None:
    rows = measure(
        "known", *(Case(n, size, 8, known) for n in (2, 3) for size in (32, 64) for known in (0, 1))
    )
    plot(rows, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as image:
        assert image.format == "PNG" and min(image.size) > 200
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 10


def test_the_table_names_what_is_varied_and_nothing_else() -> None:
    rows = measure("context", Case(2, 64, 8), Case(4, 64, 8))
    lines = render_table(rows, growth(rows)).splitlines()
    assert lines[0].split()[:3] == ["chunks", "arm", "context"]
    assert lines[1].split()[:2] == ["2x64", "full"] and lines[4].split()[:2] == ["4x64", "full"]
    assert any(line.split()[:3] == ["2x64", "blend", "at"] for line in lines)
    assert [line.split(":")[0] for line in lines[-3:]] == ["full", "blend at 0.05", "blend at 0.15"]
    assert len({len(line) for line in lines[:2]}) == 1


def test_stages_that_no_arm_has_are_left_out() -> None:
    table = render_table(measure("compare", Case(2, 64, 8)), {})
    (head,) = [line for line in table.splitlines() if line.startswith("arm") and "match" in line]
    assert "rest" not in head and head.split()[-2:] == ["prefill", "scheduling"]
    assert "grows" not in table
