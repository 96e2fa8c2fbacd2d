"""How far a run has come, on standard error: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY_S = 15.0
"""Least time between two plain lines of a count, so that logs stay short."""

Count = Callable[[int, int, str], None]
"""Takes how many are done, how many there are, and what is done."""


def tell(line: str) -> None:
    """A line of its own."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def open_progress() -> Iterator[Count]:
    """What shows a count; the first and the last call are always shown."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield PlainLines()
        return
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)

        def show(done: int, total: int, what: str) -> None:
            bar.update(task, description=f"{done}/{total} {what}", completed=done, total=total)

        yield show


class PlainLines:
    """A line for the first count, for the last one, and every few seconds between."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: tuple[float, int] | None = None
        self._told_s = -float("inf")

    def __call__(self, done: int, total: int, what: str) -> None:
        now = self._clock()
        first_s, first_done = self._first = self._first or (now, done)
        if done < total and now - self._told_s < LINE_EVERY_S:
            return
        self._told_s = now
        measured = done - first_done
        left = f", {duration((total - done) * (now - first_s) / measured)} left" if measured else ""
        tell(f"{done}/{total} {what}{left}")


def duration(seconds: float) -> str:
    """Hours, minutes, seconds.

    >>> duration(3725.4)
    '1:02:05'
    """
    minutes, whole = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{whole:02d}"
