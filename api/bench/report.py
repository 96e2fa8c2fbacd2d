"""How a benchmark ends: a table, one JSON line last, and a folder that keeps both."""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from blend.errors import RequestError
from retriever.durable import write_durably


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Rows in columns.

    Args:
        rows: of the same length, the head first.
        left: columns of names; the others are numbers, and stand to the right.

    >>> print(aligned([("arm", "ms"), ("blend", "7")]))
    arm    ms
    blend   7
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def prepare_out(folder: Path | None) -> None:
    """Make the folder, before anything is measured.

    Raises:
        RequestError: it cannot be made.
    """
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestError(f"cannot make the folder {folder}: {error.strerror}") from error


def finish(
    args: argparse.Namespace,
    table: str,
    line: Mapping[str, Any],
    details: Mapping[str, Any],
    draw: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Print the table and the line, and keep them where `--out` says.

    Args:
        line: what is printed as the JSON line.
        details: what `result.json` holds besides.
        draw: puts pictures into the folder.

    Raises:
        RequestError: the folder cannot be written to.
    """
    print(json.dumps(line) if args.json else f"{table}\n\n{json.dumps(line)}")
    if args.out is None:
        return
    try:
        write_durably(args.out / "result.json", json.dumps({**line, **details}, indent=1).encode())
        write_durably(args.out / "table.txt", f"{table}\n".encode())
        draw(args.out)
    except OSError as error:
        raise RequestError(f"cannot write the result to {args.out}: {error.strerror}") from error
