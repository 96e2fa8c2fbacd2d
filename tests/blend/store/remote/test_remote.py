"""What the remote tier does with half-written chunks, damage, ranges and budgets, on real servers."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from blend.chunks.chunk import ChunkKV
from blend.errors import CorruptChunk, StoreFull
from blend.store.codecs import NAMES, codec
from blend.store.file_format.byte_source import HeldBytes
from blend.store.file_format.chunk_file import encode, read_parts
from blend.store.file_format.recoding import recoded
from blend.store.remote import entry as remote_entry
from blend.store.remote.remote import RemoteStore
from tests.blend.store.test_contract import same
from tests.support.processes import wait_for
from tests.support.storage_servers import mark_of_path, redis_server, redis_url, s3_url

MakeChunk = Callable[..., ChunkKV]
ROOT = Path(__file__).parents[4]


def size_of(chunk: ChunkKV) -> int:
    return len(b"".join(encode(chunk)))


@pytest.fixture
def mark(tmp_path: Path) -> str:
    return mark_of_path(tmp_path)


@pytest.fixture
def small(mark: str) -> Callable[..., RemoteStore]:
    """Stores of one model, in pieces of 100 bytes."""
    return lambda url=None, **more: RemoteStore(
        url or redis_url(), mark, **{"piece_bytes": 100, "inline_bytes": 80, "deadline_ms": 20_000, **more}
    )


def names(mark: str, pattern: str) -> list[bytes]:
    with redis_server().client as client:
        return sorted(client.keys(f"kvblend:{mark}:{pattern}"))


def test_values_stay_under_the_piece_size_and_expire_no_more(
    small: Callable[..., RemoteStore], mark: str, make_chunk: MakeChunk
) -> None:
    store, chunk = small(), make_chunk(1, tokens=50)
    store.put(chunk)
    pieces = names(mark, "*}:*")
    assert len(pieces) == -(-(chunk.num_bytes + 50 * 4) // 100), (
        "keys, values and ids: more than the head takes"
    )
    with redis_server().client as client:
        assert max(client.strlen(name) for name in pieces) == 100
        assert {client.ttl(name) for name in pieces} == {-1}
    store.put(chunk)
    assert names(mark, "*}:*") == pieces, "a second writer leaves nothing"
    assert store.written.chunks == 1


@pytest.mark.parametrize(("ahead_bytes", "layers"), [(1, 1), (1 << 20, 3)])
def test_a_layer_is_read_by_range_and_with_it_what_follows_and_nothing_twice(
    small: Callable[..., RemoteStore],
    make_chunk: MakeChunk,
    monkeypatch: pytest.MonkeyPatch,
    ahead_bytes: int,
    layers: int,
) -> None:
    monkeypatch.setattr(remote_entry, "AHEAD_BYTES", ahead_bytes)
    for url in (redis_url(), s3_url()):
        store, chunk = small(url, piece_bytes=30_000), make_chunk(1, tokens=2000)
        store.put(chunk)
        before, size = store.read.num_bytes, 2 * chunk.keys[0].nbytes
        reader = store.open(chunk.record)
        assert reader is not None
        keys, _ = reader.layer(0)
        read = (store.read.num_bytes - before) / size
        assert layers <= read < layers + 0.1, "the ids stand behind the last layer"
        assert torch.equal(keys, chunk.keys[0])
        assert same(reader.chunk(), chunk)
        assert store.read.num_bytes - before < (reader.num_layers + 0.1) * size


def test_no_reader_sees_half_a_chunk_while_it_comes_and_goes(
    small: Callable[..., RemoteStore], make_chunk: MakeChunk
) -> None:
    writer, chunk = small(), make_chunk(1, tokens=300)
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            writer.put(chunk)
            time.sleep(0.005)
            writer.delete(chunk.record.chunk_id)

    thread, store, seen = threading.Thread(target=come_and_go), small(), {True: 0, False: 0}
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
    assert store.corrupt_found == store.line.failures == 0 and min(seen.values()) > 5


WRITER = """
import sys, torch
from blend.chunks.chunk import ChunkKV, make_record
from blend.store.remote.remote import RemoteStore
rows = torch.zeros(3, 5000, 2, 4)
store = RemoteStore(sys.argv[1], sys.argv[2], piece_bytes=20, inline_bytes=10)
print("ready", flush=True)
store.put(ChunkKV(make_record("model", (), range(5000)), rows, rows))
"""


def test_what_a_killed_writer_left_is_no_chunk_and_expires(
    small: Callable[..., RemoteStore], mark: str, make_chunk: MakeChunk
) -> None:
    command = [sys.executable, "-c", WRITER, redis_url(), mark]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
        wait_for(lambda: len(names(mark, "*}:*")) > 20)
        writer.send_signal(signal.SIGKILL)
    left = names(mark, "*}:*")
    assert 20 < len(left) < 48_000
    with redis_server().client as client:
        assert all(0 < client.ttl(name) <= 3600 for name in left)
    assert names(mark, "*}") == [] and list(small().ids()) == []


def test_in_a_bucket_what_a_killed_writer_left_is_swept(
    small: Callable[..., RemoteStore], make_chunk: MakeChunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, chunk, other = small(s3_url()), make_chunk(1, tokens=20), make_chunk(2)
    store.put(chunk)
    store.put(other)
    client = store._client
    client._remove([client._name("heads", chunk.record.chunk_id)])  # as if its writer had not come so far
    store.shrink(1 << 30)
    assert [*client._list("pieces")], "young pieces may belong to a writer at work"
    monkeypatch.setattr("blend.store.remote.s3_client.LEFTOVER_AGE_S", -10)
    store.shrink(1 << 30)
    assert {name.partition(".")[0] for name, _ in client._list("pieces")} == {other.record.chunk_id}
    assert same(store.get(other.record), other)


def test_every_changed_value_is_detected_and_dropped(
    small: Callable[..., RemoteStore], mark: str, make_chunk: MakeChunk, caplog: pytest.LogCaptureFixture
) -> None:
    store, chunk = small(), make_chunk(1)
    store.put(chunk)
    num_values, head_bytes = len(names(mark, "*")), len(store._client.head(chunk.record.chunk_id))
    flips = [(0, place) for place in range(0, head_bytes, 5)] + [(n, 50) for n in range(1, num_values)]
    cuts = [(n, None) for n in range(num_values)]
    with redis_server().client as client:
        for index, place in flips + cuts:
            client.delete(*names(mark, "*"))  # pieces of before stay readable for a while
            store.put(chunk)
            name = names(mark, "*")[index]
            value = bytearray(client.get(name))
            if place is None:
                value.pop()
            else:
                value[place] ^= 4
            client.set(name, bytes(value))
            with pytest.raises(CorruptChunk, match="compute it again"):
                store.get(chunk.record)
            assert chunk.record.chunk_id not in store and list(store.ids()) == []
        client.delete(*names(mark, "*"))
        store.put(chunk)
        client.delete(names(mark, "*}:*")[-1])
        with pytest.raises(CorruptChunk, match="missing"):
            store.get(chunk.record)
    assert store.corrupt_found == len(caplog.records) == len(flips + cuts) + 1


def test_the_budget_evicts_what_was_used_longest_ago_and_pins_last(
    small: Callable[..., RemoteStore], make_chunk: MakeChunk
) -> None:
    chunks = [make_chunk(seed) for seed in range(6)]
    size = size_of(chunks[0])
    store, other = small(budget_bytes=3 * size), small()
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
    assert store._client.used_bytes() == 3 * size
    with pytest.raises(StoreFull, match="over the budget .* raise remote_bytes"):
        small(budget_bytes=10).put(chunks[5])
    assert f not in store
    assert store.shrink(size) == [d, e] and set(store.ids()) == {b}


def test_a_buckets_budget_is_kept_by_shrinking(
    small: Callable[..., RemoteStore], make_chunk: MakeChunk
) -> None:
    chunks = [make_chunk(seed) for seed in range(4)]
    store = small(s3_url(), budget_bytes=2 * size_of(chunks[0]))
    for chunk in chunks:
        store.put(chunk)
        time.sleep(1.1)  # a bucket's clock counts seconds
    store.pin(chunks[1].record.chunk_id)
    assert store.get(chunks[0].record) is not None
    store.uses.tell()
    assert len(set(store.ids())) == 4
    # Heads and file names cost something beside the files.
    assert store.shrink(2 * size_of(chunks[0]) + 1000) == [chunks[n].record.chunk_id for n in (2, 3)]
    store.close()


@pytest.mark.parametrize("name", NAMES)
def test_packed_chunks_lie_in_pieces_and_their_ids_in_the_head(
    small: Callable[..., RemoteStore], mark: str, make_chunk: MakeChunk, name: str
) -> None:
    chunk, packer = make_chunk(1, tokens=100), codec(name)
    store = small(codec=packer, inline_bytes=500)
    store.put(chunk)
    data = bytearray(b"".join(encode(chunk, packer)))
    parts = read_parts(HeldBytes(data), chunk.record.chunk_id)
    assert len(names(mark, "*}:*")) == -(-(parts["kv"].stop - parts["kv"].start) // 100)
    assert store.record(chunk.record.chunk_id) == chunk.record
    expected = recoded(chunk, packer)
    got = store.get(chunk.record)
    assert same(got, expected) and got is not None and got.is_lossless == packer.is_lossless
    reader = store.open(chunk.record)
    assert reader is not None and reader.is_lossless == packer.is_lossless
    assert torch.equal(reader.layer(1)[0], expected.keys[1])
    assert store.read_file(chunk.record.chunk_id) == data


def test_models_on_one_server_do_not_see_each_other(
    small: Callable[..., RemoteStore], make_chunk: MakeChunk
) -> None:
    chunk, other = make_chunk(1), RemoteStore(redis_url(), "another-model")
    small().put(chunk)
    assert chunk.record.chunk_id not in other and list(other.ids()) == []


def test_uses_are_told_in_the_background(small: Callable[..., RemoteStore], make_chunk: MakeChunk) -> None:
    store, chunks = small(), [make_chunk(seed) for seed in range(2)]
    for chunk in chunks:
        store.put(chunk)
    assert store.get(chunks[0].record) is not None
    wait_for(lambda: store.line.client.entries()[-1].chunk_id == chunks[0].record.chunk_id)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    yield
    assert os.environ.get("KVBLEND_STORE_REMOTE") is None, "no test leaves a remote behind"
