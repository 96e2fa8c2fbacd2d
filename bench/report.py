"""How a benchmark ends: a table, one JSON line last, and a folder that keeps both."""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from blend.errors import RequestError
from retriever.durable import write_durably


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
    if args.out is not None:
        keep(args.out, table, {**line, **details}, draw)


def keep(folder: Path, table: str, whole: Mapping[str, Any], draw: Callable[[Path], None]) -> None:
    """`table.txt`, `result.json` and pictures, in place of those of an earlier run.

    Args:
        folder: made where it is missing.
        whole: all figures, for `result.json`.
        draw: puts pictures into the folder.

    Raises:
        RequestError: they cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(folder / "result.json", json.dumps(whole, indent=1).encode())
        write_durably(folder / "table.txt", f"{table}\n".encode())
        draw(folder)
    except OSError as error:
        raise RequestError(f"cannot write the result to {folder}: {error.strerror}") from error
