"""What a finished run of `kvblend bench ttft` leaves: one JSON line, a table, and pictures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.report import keep
from bench.ttft.plots import plot_known, plot_lengths, plot_stages
from bench.ttft.processes import Threads
from bench.ttft.summary import Summary
from bench.ttft.table import render_table


@dataclass(frozen=True, slots=True)
class TtftResult:
    """A finished run.

    Attributes:
        version: of the engine.
        threads: what every engine computed with.
        idle_share: by engine, its CPU time while another one answered, over that one's.
        growth: exponents of time by context length, by arm; empty where one length was measured.
    """

    model: str
    version: str
    data: str
    sweep: str
    repeat: int
    threads: Threads
    idle_share: Mapping[str, float]
    growth: Mapping[str, float]
    rows: Sequence[Summary]

    @property
    def table(self) -> str:
        return render_table(self.rows, self.growth)

    def to_json(self) -> dict[str, Any]:
        """The run as one JSON-ready object."""
        return {
            "bench": "ttft",
            "model": self.model,
            "core_ids": list(self.threads.core_ids),
            "threads": self.threads.num,
            "engine": self.version,
            "data": self.data,
            "sweep": self.sweep,
            "repeat": self.repeat,
            "idle_cpu_share": dict(self.idle_share),
            "growth": dict(self.growth),
            "arms": [row.to_json() for row in self.rows],
        }


def json_line(result: TtftResult) -> str:
    """The run in one line."""
    return json.dumps(result.to_json())


def write_ttft_result(folder: Path, result: TtftResult) -> None:
    """`result.json`, `table.txt` and the pictures, in place of those of an earlier run.

    Args:
        folder: made where it is missing.

    Raises:
        RequestError: they cannot be written.
    """

    def draw(place: Path) -> None:
        plot_stages(result.rows, place / "stages.png")
        if len({row.case.chunk_tokens for row in result.rows}) > 1:
            plot_lengths(result.rows, place / "ttft_by_context.png")
        if len({row.case.known for row in result.rows}) > 1:
            plot_known(result.rows, place / "ttft_by_known.png")

    keep(folder, result.table, result.to_json(), draw)
