"""A store with one small collection, and a real server with it, for all end-to-end tests over HTTP."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.server_process import CHUNK_TOKENS, ROOT, START_S, Served, kvblend, serving

DOCS = ROOT / "demo" / "docs"
PAGES = 3


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one small collection, `docs`, precomputed by the command that users run."""
    folder = tmp_path_factory.mktemp("serve")
    (folder / "docs").mkdir()
    for page in sorted(DOCS.glob("*.md"))[:PAGES]:
        shutil.copy(page, folder / "docs")
    store = folder / "store"
    options = ["--collection", "docs", "--store", str(store), "--chunk-tokens", str(CHUNK_TOKENS)]
    command = kvblend("precompute", str(folder / "docs"), *options)
    subprocess.run(command, check=True, timeout=START_S, capture_output=True, cwd=ROOT)
    return store


@pytest.fixture(scope="session")  # a start takes most of a minute; who makes a collection on it removes it
def served(store: Path) -> Iterator[Served]:
    """A server with that collection, started once for all modules."""
    with serving(store) as server:
        yield server
