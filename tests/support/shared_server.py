"""A store with one small collection, and a real server with it, for all end-to-end tests over HTTP."""

import pickle
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from tests.support.server_process import CHUNK_TOKENS, ROOT, START_S, Served, kvblend, serving
from tests.support.workers import is_worker

DOCS = ROOT / "demo" / "docs"
PAGES = 3
PAGE_CHARACTERS = 5000
"""Enough for half a dozen chunks each."""


@dataclass(frozen=True)
class Precomputed:
    """What `kvblend precompute` left and said; one of its files could not be read."""

    store: Path
    status: int
    output: str
    errors: str


@pytest.fixture(scope="session")
def precomputed(tmp_path_factory: pytest.TempPathFactory) -> Precomputed:
    """One small collection, `docs`, made by the command that users run; once for all processes of a run."""
    folder = tmp_path_factory.getbasetemp()
    if is_worker():
        folder = folder.parent
    said = folder / "precomputed.pickle"
    with FileLock(folder / "precomputed.lock"):
        if not said.exists():
            said.write_bytes(pickle.dumps(precompute(folder / "serve")))
    made: Precomputed = pickle.loads(said.read_bytes())
    return made


def precompute(folder: Path) -> Precomputed:
    (folder / "docs").mkdir(parents=True)
    for page in sorted(DOCS.glob("*.md"))[:PAGES]:
        (folder / "docs" / page.name).write_text(page.read_text()[:PAGE_CHARACTERS])
    (folder / "docs" / "bad.txt").write_bytes(b"caf\xe9")
    store = folder / "store"
    options = ["--collection", "docs", "--store", str(store), "--chunk-tokens", str(CHUNK_TOKENS), "--json"]
    command = kvblend("precompute", str(folder / "docs"), *options)
    done = subprocess.run(command, timeout=START_S, capture_output=True, text=True, cwd=ROOT)
    return Precomputed(store, done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def store(precomputed: Precomputed) -> Path:
    """The store with that collection."""
    assert precomputed.status == 3, precomputed.errors  # all but the file that cannot be read
    return precomputed.store


def pass_on_verdicts(store: Path, to: Path) -> None:
    """Let a new store trust what the self-check found over another one: it takes half of a start."""
    for verdict in store.glob("models/*/verdict-*.json"):
        folder = to / verdict.parent.relative_to(store)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(verdict, folder)


@pytest.fixture(scope="session")  # a start takes most of a minute; who makes a collection on it removes it
def served(store: Path) -> Iterator[Served]:
    """A server with that collection, started once for all modules."""
    with serving(store) as server:
        yield server
