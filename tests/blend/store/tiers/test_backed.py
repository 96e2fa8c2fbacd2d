"""What is damaged in the near store is read from the far one, also where a later layer shows it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from blend.chunks.chunk import ChunkKV
from blend.errors import CorruptChunk
from blend.store.file_format.chunk_file import encode
from blend.store.remote.remote import RemoteStore
from blend.store.tiers.backed import BackedStore
from blend.store.tiers.disk import DiskStore
from tests.support.storage_servers import redis_url

MakeChunk = Callable[..., ChunkKV]


@pytest.fixture
def store(tmp_path: Path) -> BackedStore:
    return BackedStore(DiskStore(tmp_path), RemoteStore(redis_url(), tmp_path.name, deadline_ms=10_000))


def damage_last_layer(store: BackedStore, chunk: ChunkKV) -> None:
    path = store.near.path(chunk.record.chunk_id)
    path.write_bytes(damaged(bytearray(path.read_bytes()), chunk))


def damaged(data: bytearray, chunk: ChunkKV) -> bytearray:
    data[data.index(chunk.values[-1].numpy().tobytes())] ^= 1
    return data


def test_a_layer_that_is_damaged_near_is_read_from_afar(store: BackedStore, make_chunk: MakeChunk) -> None:
    chunk = make_chunk(1)
    store.near.put(chunk)
    store.far.put(chunk)
    damage_last_layer(store, chunk)
    reader = store.open(chunk.record)
    assert reader is not None
    layers = [reader.layer(index) for index in range(reader.num_layers)]
    for index, (keys, values) in enumerate(layers):
        assert torch.equal(keys, chunk.keys[index]) and torch.equal(values, chunk.values[index])
    assert store.near.corrupt_found == 1
    assert torch.equal(reader.chunk().values, chunk.values)
    store.settle()
    mended = store.near.get(chunk.record)
    assert mended is not None and torch.equal(mended.values, chunk.values), "what was read whole is kept"


def test_a_layer_that_is_damaged_near_and_nowhere_else_is_said_to_be(
    store: BackedStore, make_chunk: MakeChunk
) -> None:
    chunk = make_chunk(2)
    store.near.put(chunk)
    damage_last_layer(store, chunk)
    reader = store.open(chunk.record)
    assert reader is not None
    assert torch.equal(reader.layer(0)[0], chunk.keys[0])
    with pytest.raises(CorruptChunk, match="damaged"):
        reader.layer(reader.num_layers - 1)


def test_what_is_damaged_afar_is_not_kept(
    store: BackedStore, make_chunk: MakeChunk, caplog: pytest.LogCaptureFixture
) -> None:
    chunk = make_chunk(3)
    store.far.put_file(chunk.record.chunk_id, damaged(bytearray(b"".join(encode(chunk))), chunk))
    reader = store.open(chunk.record)
    assert reader is not None
    assert torch.equal(reader.layer(0)[0], chunk.keys[0])
    with pytest.raises(CorruptChunk, match="damaged"):
        reader.layer(reader.num_layers - 1)
    store.settle()
    assert store.promoted == 0 and chunk.record.chunk_id not in store
    assert "is not kept here: checksum of layer 2 differs" in caplog.text
