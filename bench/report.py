"""How a benchmark ends: a table, one JSON line last, and a folder that keeps both."""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from blend.errors import RequestError
from retriever.durable import write_durably

MAX_WIDTH = 1000
"""Columns of characters; a table is never wrapped."""


def table(head: Sequence[str], rows: Sequence[Sequence[object]], labels: int = 1) -> str:
    """Rows under each other; None is shown as a dash.

    Args:
        labels: columns at the left that hold text; the others hold numbers and are aligned to the right.

    >>> print(table(["arm", "ms"], [["blend", 7], ["full", None]]))
    arm    ms
    blend   7
    full    -
    """
    columns = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, name in enumerate(head):
        columns.add_column(Text(name), justify="left" if number < labels else "right", no_wrap=True)
    for row in rows:
        columns.add_row(*(Text("-" if cell is None else str(cell)) for cell in row))
    out = StringIO()
    Console(file=out, width=MAX_WIDTH, color_system=None).print(columns)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def prepare_out(folder: Path | None) -> None:
    """Create the folder of the results, before anything is measured.

    Raises:
        RequestError: the folder cannot be created.
    """
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestError(f"cannot make the folder {folder}: {error.strerror}") from error


def finish(
    args: argparse.Namespace,
    text: str,
    line: Mapping[str, Any],
    details: Mapping[str, Any] | None = None,
    draw: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Print the table and the JSON line; write both to the folder of `--out`, replacing an earlier run's.

    Args:
        text: the table, for people.
        line: the object of the JSON line.
        details: what `result.json` holds besides.
        draw: writes plots into the folder.

    Raises:
        RequestError: the folder cannot be written to.
    """
    print(json.dumps(line) if args.json else f"{text}\n\n{json.dumps(line)}")
    if args.out is None:
        return
    try:
        whole = json.dumps({**line, **(details or {})}, indent=1)
        write_durably(args.out / "result.json", whole.encode())
        write_durably(args.out / "table.txt", f"{text}\n".encode())
        draw(args.out)
    except OSError as error:
        raise RequestError(f"cannot write the result to {args.out}: {error.strerror}") from error
