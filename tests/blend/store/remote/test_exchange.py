"""Chunks between this machine's folder and a remote: promoted, sent, fetched, and seen."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.processes import free_port
from blend.chunks.chunk import ChunkKV
from blend.store.codecs import codec
from blend.store.file_format.chunk_file import encode
from blend.store.file_format.recoding import recoded
from blend.store.remote import exchange as exchange_module
from blend.store.remote.breaker import CLOSED
from blend.store.remote.exchange import Exchange
from blend.store.remote.remote import RemoteStore
from blend.store.remote.view import RemoteView
from blend.store.tiers.backed import BackedStore
from blend.store.tiers.disk import DiskStore
from tests.blend.store.test_contract import same
from tests.support.processes import wait_for
from tests.support.storage_servers import RedisServer, mark_of_path, redis_url

MakeChunk = Callable[..., ChunkKV]


@pytest.fixture
def remote(tmp_path: Path) -> RemoteStore:
    return RemoteStore(redis_url(), mark_of_path(tmp_path), deadline_ms=20_000)


def test_what_is_read_from_afar_is_kept_near(
    tmp_path: Path, remote: RemoteStore, make_chunk: MakeChunk
) -> None:
    chunks, disk = [make_chunk(seed) for seed in range(2)], DiskStore(tmp_path)
    store = BackedStore(disk, remote)
    for chunk in chunks:
        remote.put(chunk)
    assert same(store.get(chunks[0].record), chunks[0])
    reader = store.open(chunks[1].record)
    assert reader is not None and same(reader.chunk(), chunks[1])
    store.settle()
    assert store.promoted == 2
    for chunk in chunks:
        remote.delete(chunk.record.chunk_id)
        assert same(store.get(chunk.record), chunk)


def test_a_chunk_damaged_near_comes_from_afar(
    tmp_path: Path, remote: RemoteStore, make_chunk: MakeChunk
) -> None:
    chunk, disk = make_chunk(1), DiskStore(tmp_path)
    store, path = BackedStore(disk, remote), disk.path(chunk.record.chunk_id)
    remote.put(chunk)
    disk.put(chunk)
    path.write_bytes(path.read_bytes()[:-1])
    assert same(store.get(chunk.record), chunk)
    store.settle()
    assert disk.corrupt_found == 1 and same(disk.get(chunk.record), chunk)


def test_a_dead_remote_leaves_what_is_near(tmp_path: Path, make_chunk: MakeChunk) -> None:
    chunk, absent = make_chunk(1), make_chunk(2)
    store = BackedStore(DiskStore(tmp_path), RemoteStore(f"redis://127.0.0.1:{free_port()}", "m"))
    store.put(chunk)
    assert same(store.get(chunk.record), chunk)
    assert store.get(absent.record) is None and absent.record.chunk_id not in store
    assert list(store.ids()) == [chunk.record.chunk_id]


def test_chunks_are_sent_and_fetched(tmp_path: Path, remote: RemoteStore, make_chunk: MakeChunk) -> None:
    chunks = [make_chunk(seed) for seed in range(4)]
    here, there = (Exchange(DiskStore(tmp_path / name), remote) for name in "ab")
    ids = [chunk.record.chunk_id for chunk in chunks]
    for chunk in chunks:
        here._disk.put(chunk)
    here.send(ids[:2])
    shared = here.flush([*ids, "neverstored"])  # those that nobody sent before too
    assert (shared.sent, shared.missing, shared.problem) == (4, 0, None)
    assert here.flush(ids).sent == 0
    there._disk.put(chunks[0])
    assert there.fetch([*ids, "neverstored"]) == 3
    assert all(same(there._disk.get(chunk.record), chunk) for chunk in chunks)
    assert there.fetch(ids) == 0


def test_what_is_damaged_here_is_not_spread(
    tmp_path: Path, remote: RemoteStore, make_chunk: MakeChunk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    sharing, chunk = Exchange(DiskStore(tmp_path), remote), make_chunk(1)
    sharing._disk.put(chunk)
    path = sharing._disk.path(chunk.record.chunk_id)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    shared = sharing.flush([chunk.record.chunk_id])
    assert (shared.sent, shared.missing) == (0, 1) and "cannot be sent: checksum" in str(shared.problem)
    assert chunk.record.chunk_id not in remote


def test_a_remote_that_does_not_come_back_is_a_problem_that_is_named(
    tmp_path: Path, make_chunk: MakeChunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_module, "PATIENCE_S", 1.0)
    sharing = Exchange(DiskStore(tmp_path), RemoteStore(f"redis://127.0.0.1:{free_port()}", "m"))
    chunk = make_chunk(1)
    sharing._disk.put(chunk)
    sharing.send([chunk.record.chunk_id])
    shared = sharing.flush([chunk.record.chunk_id])
    assert (shared.sent, shared.missing) == (0, 1) and "remote redis://127.0.0.1" in str(shared.problem)
    assert sharing.fetch([make_chunk(2).record.chunk_id]) == 0


def test_a_remote_that_comes_back_gets_everything(tmp_path: Path, make_chunk: MakeChunk) -> None:
    server, chunk = RedisServer(), make_chunk(1)
    sharing = Exchange(DiskStore(tmp_path), RemoteStore(f"redis://127.0.0.1:{server.port}", "m"))
    sharing._disk.put(chunk)
    server.kill()
    sharing.send([chunk.record.chunk_id])
    sharing._waiting.join()
    server.start()
    assert sharing.flush([chunk.record.chunk_id]).missing == 0
    assert same(sharing.remote.get(chunk.record), chunk)
    sharing.close()


def test_a_view_follows_the_remote_and_never_waits_for_it(make_chunk: MakeChunk) -> None:
    server = RedisServer()
    url = f"redis://127.0.0.1:{server.port}"
    writer, store = (RemoteStore(url, "m", deadline_ms=20_000) for _ in range(2))
    chunks = [make_chunk(n) for n in range(3)]
    writer.put(chunks[0])
    view = RemoteView(store)
    view.start(wait_s=10)
    a, b, c = (chunk.record.chunk_id for chunk in chunks)
    assert list(view.ids()) == [a] and view.record(a) == chunks[0].record
    seen = view.generation()
    writer.put(chunks[1])
    wait_for(lambda: set(view.ids()) == {a, b})
    assert view.generation() != seen
    writer.delete(a)
    wait_for(lambda: set(view.ids()) == {b})
    server.kill()
    wait_for(lambda: not list(view.ids()))
    assert view.record(b) is None
    begun = time.monotonic()
    for _ in range(10_000):
        view.generation(), view.ids(), view.record(b)
    assert time.monotonic() - begun < 10
    server.start()
    wait_for(lambda: set(view.ids()) == {b})
    assert store.connection.breaker.state == CLOSED and view.record(b) == chunks[1].record
    wait_for(lambda: writer.connection.breaker.state == CLOSED)
    writer.put(chunks[2])
    wait_for(lambda: set(view.ids()) == {b, c})
    view.close()
    for one in (store, writer):
        one.close()


@pytest.mark.parametrize("name", ["cachegen", "uniform"])
def test_a_packed_chunk_is_kept_near_as_it_is(
    tmp_path: Path, make_chunk: MakeChunk, remote: RemoteStore, name: str
) -> None:
    chunks = [make_chunk(seed, tokens=300) for seed in range(3)]
    remote.codec = codec(name)
    for chunk in chunks:
        remote.put(chunk)
    disk = DiskStore(tmp_path / "near", codec=codec("raw"))  # says how to write what is computed here
    store = BackedStore(disk, remote)
    got = store.get(chunks[0].record)
    assert got is not None and not got.is_lossless
    reader = store.open(chunks[1].record)
    assert reader is not None and not reader.is_lossless and not reader.chunk().is_lossless
    store.settle()
    assert store.promoted == 2
    assert Exchange(disk, remote).fetch([chunk.record.chunk_id for chunk in chunks]) == 1
    for chunk in chunks:
        file = disk.path(chunk.record.chunk_id).read_bytes()
        assert file == b"".join(encode(chunk, codec(name)))
        assert same(disk.get(chunk.record), recoded(chunk, codec(name)))
