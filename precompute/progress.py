"""Three ways to show a job's events: a bar on a terminal, plain lines, JSON lines."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from precompute.events import (
    Computed,
    Embedded,
    Event,
    FileRead,
    FileUnreadable,
    Finished,
    Notice,
    Planned,
    Report,
    Started,
)

LINE_EVERY_S = 5.0
"""Minimum time between two plain lines of the same count, so that logs stay short."""


@contextmanager
def open_report(as_json: bool) -> Iterator[Report]:
    """The renderer for a terminal, a log or JSON; progress on standard error, results on standard output."""
    if as_json:
        yield JsonLines(sys.stdout, sys.stderr)
    elif sys.stderr.isatty():
        with Bar(Console(stderr=True)) as bar:
            yield bar
    else:
        yield PlainLines(sys.stdout, sys.stderr)


class JsonLines:
    """One JSON object a line; `event` names its kind, the other keys are the event's attributes."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out, self._err = out, err

    def __call__(self, event: Event) -> None:
        kind = "".join(f"_{c.lower()}" if c.isupper() else c for c in type(event).__name__).lstrip("_")
        rates = (
            {"tokens_per_s": event.tokens_per_s, "left_s": event.left_s}
            if isinstance(event, Computed)
            else {}
        )
        print(json.dumps({"event": kind, **asdict(event), **rates}), file=self._out, flush=True)
        if isinstance(event, FileUnreadable):
            print(line_of(event), file=self._err, flush=True)


class PlainLines:
    """One line an event, counts at most every few seconds."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out, self._err = out, err
        self._last_s = time.monotonic()

    def __call__(self, event: Event) -> None:
        if isinstance(event, FileRead | Computed | Embedded) and not self._is_due(event):
            return
        print(line_of(event), file=self._out if isinstance(event, Finished) else self._err, flush=True)

    def _is_due(self, event: FileRead | Computed | Embedded) -> bool:
        now = time.monotonic()
        is_last = isinstance(event, Computed) and event.chunks == event.chunks_total
        if not is_last and now - self._last_s < LINE_EVERY_S:
            return False
        self._last_s = now
        return True


class Bar:
    """A progress bar that disappears when the job ends, and lines that stay."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._kind: type[Event] | None = None

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        if isinstance(event, FileRead):
            self._advance(
                event, "reading", event.files, event.files_total, f"{event.files}/{event.files_total}"
            )
        elif isinstance(event, Computed):
            self._advance(event, "computing", event.tokens, event.tokens_total, figures_of(event))
        elif isinstance(event, Embedded):
            self._advance(event, "embedding", event.chunks, event.chunks_total, f"{event.chunks} chunks")
        elif isinstance(event, Finished):
            self._progress.stop()
            print(line_of(event), flush=True)
        else:
            self._progress.console.print(line_of(event), markup=False, highlight=False, soft_wrap=True)

    def _advance(self, event: Event, what: str, done: int, total: int, figures: str) -> None:
        if self._task is None or self._kind is not type(event):
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task, self._kind = self._progress.add_task(what, figures=""), type(event)
        self._progress.update(self._task, completed=done, total=total, figures=figures)


def line_of(event: Event) -> str:
    """An event as one line (the closing summary as two) for people to read."""
    match event:
        case Started():
            return f"{event.collection}: {event.files} files"
        case FileRead():
            return f"read {event.files} of {event.files_total} files"
        case FileUnreadable():
            return f"unreadable: {event.path}: {event.reason}"
        case Notice():
            return event.message
        case Planned():
            return (
                f"{event.documents} documents, {event.chunks} chunks: {event.reused} stored already, "
                f"{event.to_compute} to compute ({event.tokens_to_compute:,} tokens)"
            )
        case Computed():
            return f"computed {figures_of(event)}"
        case Embedded():
            return f"embedded {event.chunks} of {event.chunks_total} chunks"
        case Finished():
            return _summary(event)


def figures_of(event: Computed) -> str:
    """Chunks, tokens/s, bytes and time left.

    >>> figures_of(Computed(2, 4, tokens=1000, tokens_total=2000, bytes=3_000_000, seconds=2))
    '2/4 chunks, 500 tokens/s, 3.0 MB, 0:02 left'
    """
    minutes, seconds = divmod(round(event.left_s), 60)
    return (
        f"{event.chunks}/{event.chunks_total} chunks, {event.tokens_per_s:,.0f} tokens/s, "
        f"{event.bytes / 1e6:,.1f} MB, {minutes}:{seconds:02d} left"
    )


def _summary(event: Finished) -> str:
    passed = f"{event.unreadable} files unreadable, {event.binary} binary files skipped"
    return (
        f"{event.collection}: {event.documents} documents, {event.chunks} chunks ({event.computed} computed, "
        f"{event.reused} reused, {event.dropped} dropped), {event.tokens:,} tokens; {passed}\n"
        f"computed {event.computed_tokens:,} tokens (each counted once for all versions of its chunk), "
        f"{event.bytes / 1e6:,.1f} MB, at {event.tokens_per_s:,.0f} tokens/s; {event.seconds:.1f} s in all"
    )
