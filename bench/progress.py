"""Two ways to show how far a run has come, on standard error: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from bench.fidelity.run import Step

LINE_EVERY_S = 15.0
"""Least time between two plain lines, so that logs stay short."""


@contextmanager
def open_progress() -> Iterator[Callable[[Step], None]]:
    """The renderer that suits where standard error goes."""
    if not sys.stderr.isatty():
        yield PlainLines(sys.stderr)
        return
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}")
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("measuring", left="")

        def show(step: Step) -> None:
            bar.update(
                task, description=where(step), completed=step.done, total=step.total, left=time_left(step)
            )

        yield show


class PlainLines:
    """A line for the first step, for the last one, and every few seconds between."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._last_s = -float("inf")

    def __call__(self, step: Step) -> None:
        now = time.monotonic()
        if step.done < step.total and now - self._last_s < LINE_EVERY_S:
            return
        self._last_s = now
        print(f"{where(step)}, {time_left(step)}", file=self._out, flush=True)


def where(step: Step) -> str:
    """Question and measurements.

    >>> where(Step(2, 4, done=30, total=40, measured=10, seconds=20.0))
    'question 2/4, 30/40 measurements'
    """
    return f"question {step.question}/{step.questions}, {step.done}/{step.total} measurements"


def time_left(step: Step) -> str:
    """Hours, minutes, seconds.

    >>> time_left(Step(2, 4, done=30, total=40, measured=10, seconds=20.0))
    '0:00:20 left'
    """
    if not step.measured:
        return "nothing left" if step.done == step.total else "no pace yet"
    minutes, seconds = divmod(round(step.left_s), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d} left"
