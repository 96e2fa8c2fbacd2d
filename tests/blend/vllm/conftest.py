"""One engine with the real default model for all tests that need it, and real text to ask about."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from blend import Engine
from tests.support.shared_server import pass_on_verdicts

DOCS = Path(__file__).parents[3] / "demo" / "docs"
PREFIX = "Answer the question from the documents."

MakeChunks = Callable[[int], list[str]]


@pytest.fixture(scope="module")  # closed with its module: an engine holds gigabytes
def engine(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The default model over an empty store of unpacked chunks; its self-check has run over another one."""
    own = tmp_path_factory.mktemp("store")
    pass_on_verdicts(store, own)
    with Engine(store=own, codec="raw", max_model_len=4096, always_blends=True) as engine:
        yield engine


@pytest.fixture(scope="session")
def passages() -> list[str]:
    """Paragraphs of the demo's documents, 300 to 700 characters each, in a fixed shuffle."""
    text = "\n\n".join(path.read_text() for path in sorted(DOCS.glob("*.md")))
    paragraphs = [" ".join(p.split()) for p in text.split("\n\n")]
    chosen = [p for p in paragraphs if 300 <= len(p) <= 700]
    random.Random(0).shuffle(chosen)
    assert len(chosen) >= 24
    return chosen
