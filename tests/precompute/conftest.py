"""A folder of documents, and jobs over it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from precompute.config import PrecomputeConfig
from precompute.events import Event, Finished
from precompute.job import Precompute
from tests.support.fake_engine import FakeEngine
from tests.support.word_embedder import WordEmbedder


class Jobs:
    """Runs jobs over `folder`; `events` and `engine` are the last one's."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "documents"
        self.store = root / "store"
        self.folder.mkdir()
        self.events: list[Event] = []
        self.engine = FakeEngine(self.store)
        self.embedder = WordEmbedder()

    def write(self, name: str, num_words: int, word: str = "word") -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(" ".join(f"{word}{i}" for i in range(num_words)))

    def run(
        self,
        collection: str = "docs",
        *,
        chunk_tokens: int = 32,
        prefix: str = "Be brief.",
        model: str = "m",
        max_model_len: int = 1000,
        disk_bytes: int | None = None,
        namespace: str = "",
    ) -> Finished:
        self.events = []
        self.engine = FakeEngine(self.store, model, max_model_len, namespace)
        self.engine.store.budget_bytes = disk_bytes
        config = PrecomputeConfig(self.folder, self.store, collection, chunk_tokens, prefix)
        return Precompute(self.engine, self.embedder, config, self.events.append).run()


MakeJobs = Callable[[Path], Jobs]


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(tmp_path)
