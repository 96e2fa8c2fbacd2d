"""Two engines with folders of their own share chunks through Redis and S3: what one computes, both blend."""

import time
from pathlib import Path

import pytest
import redis

from blend import Engine
from blend.store.layout import chunks_folder, mark_of
from blend.store.remote.exchange import Exchange
from blend.store.remote.remote import RemoteStore
from blend.store.tiers.disk import DiskStore
from blend.vllm.engine.answer import Ask
from blend.vllm.request_params import BlendParams
from retriever.collection import Collection
from tests.support.server_process import MAX_MODEL_LEN
from tests.support.shared_server import pass_on_verdicts
from tests.support.storage_servers import RedisServer, s3_url

pytestmark = [pytest.mark.engine, pytest.mark.model]

QUESTION = "What do these documents say?"
ANSWER_TOKENS = 12
DEADLINE_MS = 20_000
"""The bucket is a program in Python, and slow."""
PATIENCE_S = 60
"""For what comes true in a moment, however busy the machine is."""


def send(store: Path, url: str) -> Collection:
    """Put the chunks of a collection into a remote, as the job that computed them does where one is set."""
    collection = Collection.open(store, "docs")
    mark = mark_of(collection.settings.fingerprint)
    chunks = DiskStore(chunks_folder(store, mark))
    sent = Exchange(chunks, RemoteStore(url, mark, deadline_ms=DEADLINE_MS)).flush(list(chunks.ids()))
    assert sent.missing == 0, sent.problem
    return collection


def test_an_engine_blends_what_another_has_computed_also_when_redis_dies_in_between(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pass_on_verdicts(store, tmp_path)
    server = RedisServer("--requirepass", "swordfish")
    url = f"redis://:swordfish@127.0.0.1:{server.port}/0"
    collection = send(store, url)
    chunks = [chunk.chunk_id for chunk in collection.chunks]
    assert len(chunks) >= 9
    monkeypatch.setenv("KVBLEND_STORE_REMOTE", url)
    # Of three chunks the engine may find that full prefill is as soon, by the machine's speed that moment.
    settings = {"max_model_len": MAX_MODEL_LEN, "memory_bytes": 0, "always_blends": True}
    with Engine(store=tmp_path, **settings) as engine:
        assert "swordfish" not in str(engine.setup.arguments)

        def ask(some: list[str], salt: str, *, blend: bool = True) -> Ask:
            prefix = collection.settings.prefix
            asked = engine.ask(QUESTION, some, prefix=prefix, max_tokens=ANSWER_TOKENS, cache_salt=salt)
            return (
                asked
                if blend
                else Ask(
                    asked.prompt_ids, BlendParams(enabled=False), asked.max_tokens, asked.temperature, salt
                )
            )

        first, second = chunks[:3], chunks[3:6]
        # Prompts are made while the remote is there: chunk ids become tokens by what is stored of them.
        blended, affected = ask(first, "a"), ask(second, "b")
        full, later = ask(second, "c", blend=False), ask(second, "d")

        answer = engine.submit(blended)
        assert answer.stats.fallback is None and answer.stats.counts.cold_tokens < 30
        assert (
            answer.stats.counts.reused_tokens + answer.stats.counts.exact_tokens
            > answer.stats.context_tokens / 2
        )
        deadline = time.monotonic() + PATIENCE_S
        while not {*first[1:]} & set(engine.store.ids()) and time.monotonic() < deadline:
            time.sleep(0.1)  # led versions are other chunks: the first one's plain version is enough
        assert any(engine.store.ids()), "what was read is kept in this machine's folder"

        server.kill()
        reference = engine.submit(full)
        begun = time.monotonic()
        while_dead = engine.submit(affected)
        dead_s = time.monotonic() - begun
        assert while_dead.text == reference.text, "what cannot be read is computed"
        assert while_dead.stats.counts.reused_tokens == 0
        server.start()
        begun = time.monotonic()
        while (again := engine.submit(later)).stats.counts.reused_tokens == 0:
            assert time.monotonic() - begun < PATIENCE_S, again.stats
            later = ask_again(later)
        print(f"answered in {dead_s:.2f} s without Redis; used again {time.monotonic() - begun:.1f} s after")

        # Chunks whose first layers are good and whose last one is not: found out amid the blend.
        third = chunks[6:9]
        whole = ask(third, "e", blend=False)
        amid = ask(third, "f")
        damage_last_layers(redis.Redis(port=server.port, password="swordfish", protocol=2))
        damaged = engine.submit(amid)
        assert "starts again" in capfd.readouterr().err
        assert damaged.text == engine.submit(whole).text
        assert damaged.stats.fallback is None and damaged.stats.counts.reused_tokens == 0
        assert damaged.stats.counts.cold_tokens > damaged.stats.context_tokens / 2


def damage_last_layers(client: redis.Redis) -> None:
    files = list(client.scan_iter("kvblend:*:{*}"))
    assert files
    for file in files:
        (last,) = client.getrange(file, -1, -1)
        client.setrange(file, int(client.strlen(file)) - 1, bytes([last ^ 1]))


@pytest.mark.exhaustive  # another start of the engine; a bucket holds the store's contract in every run
def test_an_engine_blends_from_a_bucket_what_another_has_computed(tmp_path: Path, store: Path) -> None:
    pass_on_verdicts(store, tmp_path)
    url = s3_url()
    collection = send(store, url)
    computed = DiskStore(chunks_folder(store, mark_of(collection.settings.fingerprint)))
    chunks = [chunk.chunk_id for chunk in collection.chunks][:3]
    remote = {"remote": url, "remote_deadline_ms": DEADLINE_MS, "memory_bytes": 0}
    with Engine(store=tmp_path, max_model_len=MAX_MODEL_LEN, always_blends=True, **remote) as engine:
        assert not list(engine.store.ids())
        asked = engine.ask(QUESTION, chunks, prefix=collection.settings.prefix, max_tokens=ANSWER_TOKENS)
        stats = engine.submit(asked).stats
        assert stats.fallback is None and stats.counts.cold_tokens < 30
        assert stats.counts.reused_tokens + stats.counts.exact_tokens > stats.context_tokens / 2
        deadline = time.monotonic() + PATIENCE_S
        while not (kept := list(engine.store.ids())):
            assert time.monotonic() < deadline, "what was read is kept in this machine's folder"
            time.sleep(0.1)
        assert engine.store.path(kept[0]).read_bytes() == computed.path(kept[0]).read_bytes()


def ask_again(asked: Ask) -> Ask:
    """The same under a salt of its own."""
    salt = f"{asked.cache_salt}+"
    return Ask(asked.prompt_ids, asked.params, asked.max_tokens, asked.temperature, salt)
