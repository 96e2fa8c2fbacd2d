"""A dead, slow or lying remote: chunks are absent within the deadline, and nothing is raised to who reads."""

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from bench.processes import free_port
from blend.chunks.chunk import ChunkKV
from blend.errors import CorruptChunk, StoreError
from blend.store.remote import redis_client
from blend.store.remote.breaker import CLOSED
from blend.store.remote.connection import UnreachableRemote
from blend.store.remote.redis_client import RedisClient
from blend.store.remote.remote import RemoteStore
from tests.blend.store.test_contract import same
from tests.support import broken_servers
from tests.support.storage_servers import RedisServer

MakeChunk = Callable[..., ChunkKV]
DEADLINE_MS = 300
SLACK_S = 3.0
"""Of a busy machine: a thread that wakes up late. Sockets would give up later still."""
PATIENCE_S = 60.0


def remote(port: int) -> RemoteStore:
    return RemoteStore(f"redis://127.0.0.1:{port}", "m", deadline_ms=DEADLINE_MS)


def wait_until(holds: Callable[[], bool], seconds: float) -> None:
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() - begun < seconds
        time.sleep(0.01)


def assert_costs_one_deadline(
    store: RemoteStore,
    chunk: ChunkKV,
    caplog: pytest.LogCaptureFixture,
    deadline_s: float = DEADLINE_MS / 1e3,
) -> None:
    """Ten thousand requests for a chunk of a remote that does not work."""
    begun = time.monotonic()
    assert store.get(chunk.record) is None
    first_s = time.monotonic() - begun
    assert first_s < deadline_s + SLACK_S
    opened = store.connection.breaker.opened
    begun = time.monotonic()
    for _ in range(2500):
        assert store.get(chunk.record) is None
        assert store.open(chunk.record) is None
        assert store.record(chunk.record.chunk_id) is None
        assert chunk.record.chunk_id not in store
    assert time.monotonic() - begun < 30.0  # a hundredth of 10,000 deadlines
    assert list(store.ids()) == []
    assert store.connection.breaker.state != CLOSED and store.connection.breaker.skipped >= 10_000
    assert store.connection.failures == store.connection.breaker.opened == opened == 1
    assert [record.name for record in caplog.records] == ["blend.store.remote.breaker"], (
        "one line for one change"
    )
    with pytest.raises(UnreachableRemote, match="does not work at the moment"):
        store.put(chunk)


def test_a_dead_server(make_chunk: MakeChunk, caplog: pytest.LogCaptureFixture) -> None:
    assert_costs_one_deadline(remote(free_port()), make_chunk(1), caplog)


@pytest.mark.parametrize("answer", broken_servers.ALL)
def test_a_server_that_accepts_and_does_not_answer_as_it_should(
    answer: Callable[[socket.socket], None], make_chunk: MakeChunk, caplog: pytest.LogCaptureFixture
) -> None:
    with broken_servers.serving(answer) as port:
        store = remote(port)
        if answer is broken_servers.lying:  # well-formed answers: only the checks of what was read can tell
            with pytest.raises(CorruptChunk):
                store.get(make_chunk(1).record)
            assert store.corrupt_found == 1
        else:
            assert_costs_one_deadline(store, make_chunk(1), caplog)


@pytest.mark.parametrize("answer", [broken_servers.silent, broken_servers.garbage])
def test_an_s3_service_that_does_not_answer_as_it_should(
    answer: Callable[[socket.socket], None],
    make_chunk: MakeChunk,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with broken_servers.serving(answer) as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tester")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
        store = RemoteStore("s3://chunks/x", "m", deadline_ms=DEADLINE_MS)
        assert_costs_one_deadline(store, make_chunk(1), caplog)


def test_a_chunk_that_comes_in_slow_ranges_costs_one_deadline(
    make_chunk: MakeChunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_client, "RANGE_BYTES", 1000)
    server, chunk = RedisServer(), make_chunk(1, tokens=500)
    store = remote(server.port)
    store.put(chunk)
    client = store.connection._client
    assert isinstance(client, RedisClient)
    getrange = client._redis.getrange

    async def slowly(*asked: Any) -> Any:
        await asyncio.sleep(0.3 * DEADLINE_MS / 1e3)  # each is within the deadline, all together are not
        return await getrange(*asked)

    monkeypatch.setattr(client._redis, "getrange", slowly)
    begun = time.monotonic()
    assert store.get(chunk.record) is None
    assert time.monotonic() - begun < DEADLINE_MS / 1e3 + SLACK_S
    assert store.connection.breaker.state != CLOSED and store.connection.failures == 1
    store.close()


def test_a_missed_deadline_costs_no_call_beside_it(make_chunk: MakeChunk) -> None:
    server, chunks = RedisServer(), [make_chunk(seed, tokens=500) for seed in range(2)]
    store, at_once = remote(server.port), threading.Barrier(2)
    for chunk in chunks:
        store.put(chunk)
    raised, got = list[BaseException](), list[Any]()

    async def hang(client: Any) -> None:
        await client._redis.blpop("kvblend:nobody", 60)

    def late() -> None:
        at_once.wait()
        try:
            store.connection.call(hang, 0.2)
        except UnreachableRemote as error:
            raised.append(error)

    async def slow_get(client: Any) -> Any:
        await asyncio.sleep(0.5)
        return await client.get(chunks[1].record.chunk_id)

    thread = threading.Thread(target=late)
    thread.start()
    at_once.wait()
    got.append(store.connection.call(slow_get, 20))
    thread.join()
    assert len(raised) == 1 and len(got[0]) > 1000
    store.close()


def test_a_killed_server_costs_no_reader_more_than_the_deadline_and_is_used_again(
    make_chunk: MakeChunk, caplog: pytest.LogCaptureFixture
) -> None:
    server, chunks = RedisServer(), [make_chunk(seed, tokens=500) for seed in range(5)]
    store = remote(server.port)
    for chunk in chunks:
        store.put(chunk)
    stop, slowest, raised, served = threading.Event(), [0.0], list[BaseException](), [0]

    def read() -> None:
        while not stop.is_set():
            for chunk in chunks:
                begun = time.monotonic()
                try:
                    got = store.get(chunk.record)
                    assert got is None or same(got, chunk)
                    served[0] += got is not None
                except BaseException as error:
                    raised.append(error)
                slowest[0] = max(slowest[0], time.monotonic() - begun)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(3):
            wait_until(lambda before=served[0]: served[0] > before + 20, PATIENCE_S)
            server.kill()
            wait_until(lambda: store.connection.breaker.state != CLOSED, PATIENCE_S)
            server.start()
            before = served[0]
            wait_until(lambda before=before: served[0] > before, PATIENCE_S)
        server.freeze()
        wait_until(lambda: store.connection.breaker.state != CLOSED, PATIENCE_S)
        server.thaw()
        wait_until(lambda before=served[0]: served[0] > before, PATIENCE_S)
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert raised == []
    assert slowest[0] < DEADLINE_MS / 1e3 + SLACK_S
    store.close()
    opened = store.connection.breaker.opened  # a line each for opening and closing; it may be open now
    assert 2 * opened - 1 <= len(caplog.records) <= 2 * opened


def test_what_answers_trials_and_nothing_else_is_used_less_and_less(make_chunk: MakeChunk) -> None:
    server, chunk = RedisServer(), make_chunk(1, tokens=100)
    store = remote(server.port)
    store.put(chunk)
    with server.client as client:
        for name in client.keys("kvblend:m:*"):
            client.rename(name, "elsewhere")
            client.lpush(name, "a list is no file: reading it is an error")
    begun = time.monotonic()
    while time.monotonic() - begun < 3.2:
        assert store.get(chunk.record) is None
        time.sleep(0.005)
    assert store.connection.breaker.opened <= 3  # after 0, 0.5, 1.5 and 3.5 s


def test_an_open_chunk_whose_server_dies_stays_readable(make_chunk: MakeChunk) -> None:
    server, chunk = RedisServer(), make_chunk(1)
    store = remote(server.port)
    store.put(chunk)
    handle = store.open(chunk.record)
    assert handle is not None
    server.kill()
    assert same(handle.chunk(), chunk)
    assert store.get(chunk.record) is None
    server.start()
    wait_until(lambda: store.get(chunk.record) is not None, PATIENCE_S)
    assert store.corrupt_found == 0
    store.close()


def test_writes_to_a_dead_server_say_so(make_chunk: MakeChunk) -> None:
    store, key = remote(free_port()), make_chunk(1).record.chunk_id
    for write in (store.pin, store.unpin, store.delete, store.drop):
        with pytest.raises(StoreError, match="remote redis://127"):
            write(key)
    with pytest.raises(StoreError):
        store.shrink(0)
    assert not store.is_pinned(key)
    store.touch(key)
    store.uses.tell()
    store.close()


def test_no_secret_is_logged_or_raised(make_chunk: MakeChunk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server = RedisServer("--requirepass", "right")
    store = RemoteStore(f"redis://someone:swordfish@127.0.0.1:{server.port}/0", "m")
    assert store.get(make_chunk(1).record) is None
    with pytest.raises(UnreachableRemote) as raised:
        store.put(make_chunk(1))
    text = f"{caplog.text} {raised.value} {store.connection.name}"
    assert "redis://***@127.0.0.1" in text and "swordfish" not in text and "someone" not in text
