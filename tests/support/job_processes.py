"""Precompute jobs in a process of their own, over generated documents: a test may kill or starve them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

Reports = list[dict[str, Any]]


def write_documents(folder: Path, names: Iterable[str], num_words: int) -> None:
    """Documents of distinct words; the same name gives the same text."""
    folder.mkdir(parents=True)
    for name in names:
        (folder / f"{name}.txt").write_text(" ".join(f"{name}{i}" for i in range(num_words)))


def reports_of(module: str, *args: str | Path, timeout_s: float, under: Sequence[str] = ()) -> Reports:
    """Run a module of tests.support that prints JSON lines.

    Args:
        under: a command that starts the interpreter.
    """
    done = subprocess.run(
        [*under, sys.executable, "-m", f"tests.support.{module}", *map(str, args)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    sys.stderr.write(done.stderr)  # which pytest shows where a test fails
    assert done.returncode == 0
    return [json.loads(line) for line in done.stdout.splitlines()]
