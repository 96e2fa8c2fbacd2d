"""A store with two small collections, and its commands."""

import json
from pathlib import Path
from typing import Any

import pytest

from api.cli.main import main
from blend.store.tiers.disk import DiskStore
from precompute.config import PrecomputeConfig
from precompute.job import Precompute
from tests.support.fake_engine import FakeEngine
from tests.support.word_embedder import WordEmbedder


class Shop:
    """A store of collections `one` and `two`, which share one of their documents' chunks."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / "store"
        for name, documents in (("one", "ab"), ("two", "bc")):
            folder = root / name
            folder.mkdir(parents=True)
            for letter in documents:
                (folder / f"{letter}.txt").write_text(" ".join(f"{letter}{i}" for i in range(20)))
            self.precompute(name)
        self.chunks: DiskStore = FakeEngine(self.path).store
        self.mark = self.chunks.root.parent.name

    def precompute(self, name: str) -> FakeEngine:
        """Run the job of a collection."""
        engine = FakeEngine(self.path)
        config = PrecomputeConfig(self.root / name, self.path, name, chunk_tokens=32, prefix="Be brief.")
        Precompute(engine, WordEmbedder(), config, lambda _: None).run()
        return engine


class Commands:
    """Runs `kvblend store` on a shop."""

    def __init__(self, shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
        self._shop = shop
        self._capsys = capsys

    def run(self, *arguments: str, store: Path | None = None) -> tuple[int, str, str]:
        """Status, standard output, standard error."""
        self._capsys.readouterr()
        status = main(["store", *arguments, "--store", str(store or self._shop.path)])
        captured = self._capsys.readouterr()
        return status, captured.out, captured.err

    def ok(self, *arguments: str, store: Path | None = None) -> str:
        """What a command that succeeds prints."""
        status, out, err = self.run(*arguments, store=store)
        assert (status, err) == (0, "")
        return out

    def json(self, *arguments: str, store: Path | None = None) -> Any:
        """The same with `--json`, read."""
        return json.loads(self.ok(*arguments, "--json", store=store))

    def fails(self, *arguments: str) -> str:
        """The one line of a command that fails."""
        status, out, err = self.run(*arguments)
        assert (status, out, err.count("\n")) == (1, "", 1)
        return err


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setenv("KVBLEND_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KVBLEND_STORE", raising=False)
    return Shop(tmp_path)


@pytest.fixture
def commands(shop: Shop, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(shop, capsys)
