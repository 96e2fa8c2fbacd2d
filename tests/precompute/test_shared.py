"""Jobs on machines that share a remote: what one has computed the other does not compute again."""

from pathlib import Path

import pytest

from blend.store.remote import exchange as exchange_module
from blend.store.remote.exchange import Exchange
from blend.store.remote.remote import RemoteStore
from precompute.config import PrecomputeConfig
from precompute.events import Event, Notice
from precompute.job import Precompute
from tests.support.fake_engine import FakeEngine
from tests.support.storage_servers import RedisServer
from tests.support.word_embedder import WordEmbedder


class Machine:
    """A store of its own, and a folder of documents that all machines have."""

    def __init__(self, root: Path, name: str, url: str) -> None:
        self._documents = root / "documents"
        self._documents.mkdir(exist_ok=True)
        for letter in "abc":
            (self._documents / f"{letter}.txt").write_text(" ".join(f"{letter}{i}" for i in range(40)))
        self.store = root / name
        self.engine = FakeEngine(self.store)
        self.engine.exchange = Exchange(self.engine.store, RemoteStore(url, "fake"))

    def precompute(self) -> tuple[int, list[str]]:
        """Chunks that were computed, and what was said."""
        events: list[Event] = []
        config = PrecomputeConfig(self._documents, self.store, "docs", chunk_tokens=32, prefix="Be brief.")
        finished = Precompute(self.engine, WordEmbedder(), config, events.append).run()
        return finished.computed, [event.message for event in events if isinstance(event, Notice)]


def test_a_job_fills_the_remote_and_another_machines_job_computes_nothing(tmp_path: Path) -> None:
    server = RedisServer("--requirepass", "swordfish")
    url = f"redis://:swordfish@127.0.0.1:{server.port}"
    one, two = (Machine(tmp_path, name, url) for name in ("one", "two"))
    computed, notices = one.precompute()
    assert computed == 6 and any("chunks sent to remote redis://***@127" in notice for notice in notices)
    assert not any("swordfish" in notice for notice in notices)
    ids = set(one.engine.store.ids())
    assert one.engine.exchange is not None and set(one.engine.exchange.remote.ids()) == ids
    assert two.precompute()[0] == 0 and two.engine.computed == []
    assert set(two.engine.store.ids()) == ids
    for key in ids:
        assert two.engine.store.path(key).read_bytes() == one.engine.store.path(key).read_bytes()


def test_a_dead_remote_costs_the_job_a_notice_and_a_later_run_sends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_module, "PATIENCE_S", 1.0)
    server = RedisServer()
    server.kill()
    one = Machine(tmp_path, "one", f"redis://127.0.0.1:{server.port}")
    computed, notices = one.precompute()
    assert computed == 6
    assert any("chunks are in the folder, but not on remote" in notice for notice in notices)
    server.start()
    monkeypatch.setattr(exchange_module, "PATIENCE_S", 30.0)
    computed, notices = one.precompute()
    assert computed == 0 and any("chunks sent to remote" in notice for notice in notices)
    assert one.engine.exchange is not None
    assert set(one.engine.exchange.remote.ids()) == set(one.engine.store.ids())
