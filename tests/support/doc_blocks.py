"""Blocks of code in README.md and docs/: which tests run each of them, and which are said not to be run."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
LANGUAGES = ("console", "sh", "python")
NOT_RUN = "Not run by the tests"
FENCE = re.compile(r"^```(\w*)(?: (\w+))?\n(.*?)^```$", flags=re.M | re.S)


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        group: the word after the language, which names the test that runs the block; or empty.
        is_excused: a paragraph beside it says that it is not run.
    """

    page: str
    line: int
    language: str
    group: str
    source: str
    is_excused: bool

    @property
    def commands(self) -> list[str]:
        """What a reader types: all of it, or in a console what follows the prompt."""
        if self.language != "console":
            return [self.source]
        return re.findall(r"^\$ ((?:.*\\\n)*.*)$", self.source, flags=re.M)


def blocks() -> Iterator[Block]:
    """All blocks of commands and Python, page by page."""
    for page in PAGES:
        if page.exists():
            yield from _blocks(page.relative_to(ROOT).as_posix(), page.read_text(encoding="utf-8"))


def in_group(group: str) -> list[Block]:
    """The blocks that one test runs."""
    found = [block for block in blocks() if block.group == group]
    assert found, f"no page has a block for the group {group}"
    return found


def _blocks(page: str, text: str) -> Iterator[Block]:
    for match in FENCE.finditer(text):
        language, group, source = match.groups()
        before = text[: match.start()].rstrip().rpartition("\n\n")[2]
        after = text[match.end() :].lstrip().partition("\n\n")[0]
        if language in LANGUAGES:
            is_excused = NOT_RUN in " ".join(f"{before} {after}".split())
            line = text.count("\n", 0, match.start()) + 1
            yield Block(page, line, language, group or "", source, is_excused)


def place_for_commands(place: Path) -> dict[str, str]:
    """Make `kvblend` a command in a folder; returns the environment of the commands that run there."""
    (place / "bin").mkdir()
    launcher = place / "bin" / "kvblend"
    launcher.write_text(f'#!/bin/sh\nexec {sys.executable} -m api.cli "$@"\n')
    launcher.chmod(0o755)
    path = f"{place / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "KVBLEND_STORE": str(place / "store")}


def run(command: str, place: Path, environment: dict[str, str], limit_s: float) -> str:
    """Run a command as a shell would, stopping at the first failure; returns what it printed."""
    done = subprocess.run(
        ["sh", "-ec", command], cwd=place, env=environment, capture_output=True, text=True, timeout=limit_s
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def run_python(source: str, place: Path, environment: dict[str, str], limit_s: float) -> str:
    """Run a page's Python as a script of its own."""
    (place / "example.py").write_text(source)
    return run(f"{sys.executable} example.py", place, environment, limit_s)
