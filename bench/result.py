"""What a finished run leaves: one JSON line, a table, all figures, and pictures."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.fidelity.journal import Header
from bench.fidelity.plots import plot_kl, plot_layer_errors, plot_picks
from bench.fidelity.question import LabPrompt
from bench.fidelity.scores import Scores
from bench.fidelity.summary import Summary
from bench.fidelity.table import render_table
from bench.report import keep


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run.

    Attributes:
        baseline: name of the method that others are held against, or None.
        scores: every question under every method.
        summaries: one per method.
    """

    header: Header
    baseline: str | None
    scores: Sequence[Scores]
    summaries: Sequence[Summary]

    @property
    def table(self) -> str:
        return render_table(self.summaries, self.baseline)


def json_line(result: Result) -> str:
    """The run in one line; the rest stands in `result.json`."""
    return json.dumps(_as_object(result))


def write_result(folder: Path, result: Result, prompt: LabPrompt) -> None:
    """`result.json`, `table.txt` and the pictures, in place of those of an earlier run.

    Args:
        folder: made where it is missing.
        prompt: the one whose picks are drawn.

    Raises:
        RequestError: they cannot be written.
    """
    header = asdict(result.header)
    whole = {**_as_object(result), "header": header, "baseline": result.baseline}
    whole["summaries"] = [one.to_json() for one in result.summaries]

    def draw(place: Path) -> None:
        plot_kl(result.summaries, place / "kl_by_ratio.png")
        own = [one for one in result.scores if one.question == prompt.key]
        plot_picks(prompt, own, place / "picks.png")
        if any(one.key_error for one in result.summaries):  # some backends cannot see them
            plot_layer_errors(result.summaries, place / "layer_errors.png")

    keep(folder, result.table, whole, draw)


def _as_object(result: Result) -> dict[str, Any]:
    return {
        "bench": "fidelity",
        "model": result.header.model,
        "data": result.header.data,
        "n": len({one.question for one in result.scores}),
        "full_f1": result.summaries[0].full_f1,
        "methods": [_method(one) for one in result.summaries],
    }


def _method(one: Summary) -> dict[str, Any]:
    return {
        "name": one.method.name,
        "ratio": one.method.ratio,
        "chunks": one.method.chunks,
        "kl_mean": one.kl_mean.mean,
        "kl_mean_ci": list(one.kl_mean.ci),
        "kl_first": one.kl_first.mean,
        "top1": one.top1.mean,
        "catastrophic": one.catastrophic.mean,
        "f1": one.f1.mean,
        "flops_share": one.flops_share,
        "ms": one.ms,
    }
