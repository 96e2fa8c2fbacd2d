"""What the remote tier does with half-written chunks, damage, long files and budgets, on real servers."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from blend.chunks.chunk import ChunkKV
from blend.errors import CorruptChunk, StoreFull
from blend.store.codecs import NAMES, codec
from blend.store.file_format.chunk_file import encode
from blend.store.file_format.recoding import recoded
from blend.store.remote import redis_client
from blend.store.remote import remote as remote_module
from blend.store.remote.remote import RemoteStore
from tests.blend.store.test_contract import same
from tests.support.processes import wait_for
from tests.support.storage_servers import cluster_url, mark_of_path, redis_server, redis_url, s3_url

MakeChunk = Callable[..., ChunkKV]
MakeStore = Callable[..., RemoteStore]
ROOT = Path(__file__).parents[4]


def file_of(chunk: ChunkKV) -> bytes:
    return b"".join(encode(chunk))


def put_file(store: RemoteStore, chunk: ChunkKV, data: bytes) -> None:
    """Replace what the server has of a chunk, whatever it is."""
    store.drop(chunk.record.chunk_id)
    store.connection.write(lambda client: client.put(chunk.record.chunk_id, memoryview(data)))


@pytest.fixture
def mark(tmp_path: Path) -> str:
    return mark_of_path(tmp_path)


@pytest.fixture
def make_store(mark: str) -> MakeStore:
    """Stores of one model."""
    return lambda url=None, **more: RemoteStore(url or redis_url(), mark, **{"deadline_ms": 20_000, **more})


def names(mark: str, pattern: str = "*") -> list[bytes]:
    with redis_server().client as client:
        return sorted(client.keys(f"kvblend:{mark}:{pattern}"))


def test_a_chunk_is_one_value_that_does_not_expire(
    make_store: MakeStore, mark: str, make_chunk: MakeChunk
) -> None:
    store, chunk = make_store(), make_chunk(1, tokens=50)
    store.put(chunk)
    store.put(chunk)
    (name,) = names(mark)
    with redis_server().client as client:
        assert client.get(name) == file_of(chunk) and client.ttl(name) == -1
    assert store.copy_file(chunk.record.chunk_id) == file_of(chunk)


@pytest.mark.parametrize("range_bytes", [100, 1000, 10_000])
@pytest.mark.parametrize("url", [redis_url, cluster_url])
def test_a_long_file_comes_in_ranges(
    make_store: MakeStore,
    make_chunk: MakeChunk,
    monkeypatch: pytest.MonkeyPatch,
    range_bytes: int,
    url: Callable[[], str],
) -> None:
    monkeypatch.setattr(redis_client, "RANGE_BYTES", range_bytes)
    for tokens in (1, 20, 100):
        store, chunk = make_store(url()), make_chunk(tokens, tokens=tokens)
        store.put(chunk)
        assert same(store.get(chunk.record), chunk)
        handle = store.open(chunk.record)
        assert handle is not None and torch.equal(handle.layer(1)[0], chunk.keys[1])


@pytest.mark.parametrize("url", [redis_url, cluster_url, s3_url])
def test_records_are_read_whatever_the_length_of_their_ids(
    make_store: MakeStore, make_chunk: MakeChunk, monkeypatch: pytest.MonkeyPatch, url: Callable[[], str]
) -> None:
    monkeypatch.setattr(remote_module, "HEAD_BYTES", 1000)
    store = make_store(url())
    chunks = [make_chunk(1), make_chunk(2, tokens=300), make_chunk(3, prefix=900), make_chunk(4)]
    for chunk in chunks[:3]:
        store.put(chunk)
    ids = [chunk.record.chunk_id for chunk in chunks]
    expected = {chunk.record.chunk_id: chunk.record for chunk in chunks[:3]}
    for num_bytes in (4, 100, 1000, 1 << 20):
        assert store.records([*ids, "../no id"], num_bytes) == expected


def test_no_reader_sees_half_a_chunk_while_it_comes_and_goes(
    make_store: MakeStore, make_chunk: MakeChunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_client, "RANGE_BYTES", 20_000)
    writer, chunk = make_store(), make_chunk(1, tokens=300)
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            writer.put(chunk)
            time.sleep(0.005)
            writer.delete(chunk.record.chunk_id)

    thread, store, seen = threading.Thread(target=come_and_go), make_store(), {True: 0, False: 0}
    thread.start()
    enough, until = time.monotonic() + 2, time.monotonic() + 60
    try:
        while time.monotonic() < enough or (min(seen.values()) <= 5 and time.monotonic() < until):
            got = store.get(chunk.record)
            assert got is None or same(got, chunk)
            seen[got is None] += 1
    finally:
        stop.set()
        thread.join()
    assert store.corrupt_found == store.connection.failures == 0 and min(seen.values()) > 5


WRITER = """
import asyncio, sys, torch
from blend.chunks.chunk import ChunkKV, make_record
from blend.store.remote.remote import RemoteStore
rows = torch.zeros(3, 5000, 2, 4)
store = RemoteStore(sys.argv[1], sys.argv[2])
client = store.connection._client
write = client._redis.set
async def write_and_wait(*args, **more):
    await write(*args, **more)
    print("written", flush=True)
    await asyncio.sleep(60)
client._redis.set = write_and_wait
store.put(ChunkKV(make_record("model", (), range(5000)), rows, rows))
"""


def test_what_a_killed_writer_left_is_no_chunk_and_expires(
    make_store: MakeStore, mark: str, make_chunk: MakeChunk
) -> None:
    command = [sys.executable, "-c", WRITER, redis_url(), mark]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == b"written\n"
        writer.send_signal(signal.SIGKILL)
    (left,) = names(mark)
    with redis_server().client as client:
        assert 0 < client.ttl(left) <= 3600
    store = make_store()
    assert list(store.ids()) == []
    key = left.decode().rpartition("{")[2].rstrip("}")
    store.put_file(key, b"another writer goes on where the first has died")
    assert list(store.ids()) == [key]
    with redis_server().client as client:
        assert client.ttl(left) == -1


@pytest.mark.parametrize("url", [redis_url, s3_url])
def test_every_changed_byte_and_every_cut_is_detected_and_dropped(
    make_store: MakeStore, make_chunk: MakeChunk, caplog: pytest.LogCaptureFixture, url: Callable[[], str]
) -> None:
    store, chunk = make_store(url()), make_chunk(1)
    data = file_of(chunk)
    step = 5 if url is redis_url else 150
    flips = range(0, len(data), step)
    damaged = [data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :] for place in flips]
    damaged += [data[:size] for size in range(1, len(data), 10 * step)] + [data + b"x"]
    for each in damaged:
        put_file(store, chunk, each)
        with pytest.raises(CorruptChunk, match="compute it again"):
            store.get(chunk.record)
        assert chunk.record.chunk_id not in store and list(store.ids()) == []
    assert store.corrupt_found == len(caplog.records) == len(damaged)
    store.put(chunk)
    assert same(store.get(chunk.record), chunk)


def test_a_file_that_the_server_evicted_by_itself_is_absent(
    make_store: MakeStore, mark: str, make_chunk: MakeChunk
) -> None:
    store, chunk = make_store(), make_chunk(1)
    store.put(chunk)
    with redis_server().client as client:
        client.delete(*names(mark))
    assert store.get(chunk.record) is None and store.record(chunk.record.chunk_id) is None
    assert chunk.record.chunk_id not in store and store.corrupt_found == 0
    store.put(chunk)
    assert same(store.get(chunk.record), chunk)


def test_the_budget_evicts_what_was_used_longest_ago_and_pins_last(
    make_store: MakeStore, make_chunk: MakeChunk
) -> None:
    chunks = [make_chunk(seed) for seed in range(6)]
    size = len(file_of(chunks[0]))
    store, other = make_store(budget_bytes=3 * size), make_store()
    for chunk in chunks[:3]:
        store.put(chunk)
    a, b, c, d, e, f = (chunk.record.chunk_id for chunk in chunks)
    other.pin(b)
    assert other.get(chunks[0].record) is not None  # another process uses the oldest
    other.uses.tell()
    store.put(chunks[3])
    assert set(store.ids()) == {a, b, d} and c not in store
    store.put(chunks[4])
    assert set(store.ids()) == {b, d, e}
    assert store.uses.evicted == 2
    assert store.connection.write(lambda client: client.num_bytes()) == 3 * size
    with pytest.raises(StoreFull, match="over the budget .* raise remote_bytes"):
        make_store(budget_bytes=10).put(chunks[5])
    assert f not in store
    assert store.shrink(size) == [d, e] and set(store.ids()) == {b}


def test_a_buckets_budget_is_kept_by_shrinking(make_store: MakeStore, make_chunk: MakeChunk) -> None:
    chunks = [make_chunk(seed) for seed in range(4)]
    size = len(file_of(chunks[0]))
    store = make_store(s3_url(), budget_bytes=2 * size)
    for chunk in chunks:
        store.put(chunk)
        time.sleep(1.1)  # a bucket's clock counts seconds
    store.pin(chunks[1].record.chunk_id)
    assert store.get(chunks[0].record) is not None
    store.uses.tell()
    assert len(set(store.ids())) == 4
    assert store.shrink(2 * size) == [chunks[n].record.chunk_id for n in (2, 3)]
    store.close()


@pytest.mark.parametrize("name", NAMES)
def test_packed_chunks_lie_there_as_they_were_packed(
    make_store: MakeStore, make_chunk: MakeChunk, name: str
) -> None:
    chunk, packer = make_chunk(1, tokens=100), codec(name)
    store = make_store(codec=packer)
    store.put(chunk)
    assert store.record(chunk.record.chunk_id) == chunk.record
    expected = recoded(chunk, packer)
    got = store.get(chunk.record)
    assert same(got, expected) and got is not None and got.is_lossless == packer.is_lossless
    handle = store.open(chunk.record)
    assert handle is not None and handle.is_lossless == packer.is_lossless
    assert torch.equal(handle.layer(1)[0], expected.keys[1])
    assert store.copy_file(chunk.record.chunk_id) == b"".join(encode(chunk, packer))


def test_models_on_one_server_do_not_see_each_other(make_store: MakeStore, make_chunk: MakeChunk) -> None:
    chunk, other = make_chunk(1), RemoteStore(redis_url(), "another-model")
    make_store().put(chunk)
    assert chunk.record.chunk_id not in other and list(other.ids()) == []


def test_uses_are_told_in_the_background(make_store: MakeStore, make_chunk: MakeChunk) -> None:
    store, chunks = make_store(), [make_chunk(seed) for seed in range(2)]
    for chunk in chunks:
        store.put(chunk)
    assert store.get(chunks[0].record) is not None
    entries = partial(store.connection.write, lambda client: client.entries())
    wait_for(lambda: entries()[-1].chunk_id == chunks[0].record.chunk_id)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    yield
    assert os.environ.get("KVBLEND_STORE_REMOTE") is None, "no test leaves a remote behind"
