"""Files that codecs have packed: several in one store, damage, other versions, and packing again in place."""

import logging
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from blend.chunks.chunk import ChunkKV
from blend.errors import CorruptChunk
from blend.store.codecs import NAMES, codec, tag_of
from blend.store.codecs.base import RAW, Codec
from blend.store.codecs.uniform import Uniform
from blend.store.file_format.byte_source import HeldBytes
from blend.store.file_format.chunk_file import ChunkFile, encode, map_chunk, read_parts, read_record
from blend.store.file_format.chunk_header import BadFileError, Part
from blend.store.file_format.recoding import LossyError, recode, recoded
from blend.store.remote.remote import RemoteStore
from blend.store.tiers.cached import CachedStore
from blend.store.tiers.disk import DiskStore
from tests.support.storage_servers import mark_of_path, redis_url

MakeChunk = Callable[..., ChunkKV]
LOSSY = [codec(name) for name in NAMES if not codec(name).is_lossless]
lossy = pytest.mark.parametrize("one", LOSSY, ids=lambda one: one.name)


def parts_of(path: Path, chunk_id: str) -> dict[str, Part]:
    return read_parts(HeldBytes(bytearray(path.read_bytes())), chunk_id)


def equal(one: ChunkKV | None, other: ChunkKV) -> bool:
    assert one is not None
    pairs = (one.keys, other.keys), (one.values, other.values)
    return one.record == other.record and all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@lossy
def test_a_store_may_hold_chunks_of_every_codec(
    tmp_path: Path, make_chunk: MakeChunk, one: Codec, dtype: torch.dtype
) -> None:
    mixed = {name: make_chunk(seed, tokens=11, dtype=dtype) for seed, name in enumerate(NAMES)}
    for name, chunk in mixed.items():
        DiskStore(tmp_path, codec=codec(name)).put(chunk)
    reading = DiskStore(tmp_path, codec=one)  # what it writes by says nothing of what it reads
    for name, chunk in mixed.items():
        got = reading.get(chunk.record)
        assert equal(got, recoded(chunk, codec(name)))
        assert got is not None and got.is_lossless == (name == "raw")
        assert reading.record(chunk.record.chunk_id) == chunk.record
    assert equal(reading.get(mixed["raw"].record), mixed["raw"])


@lossy
def test_a_layer_is_decoded_alone(tmp_path: Path, make_chunk: MakeChunk, one: Codec) -> None:
    chunk = make_chunk(1, tokens=13)
    store = DiskStore(tmp_path, codec=one)
    store.put(chunk)
    whole = store.get(chunk.record)
    path = store.path(chunk.record.chunk_id)
    part = parts_of(path, chunk.record.chunk_id)["kv"]
    assert part.packing is not None and part.packing.codec == tag_of(one)
    start, _ = part.layer_span(1)
    data = bytearray(path.read_bytes())
    data[start] ^= 1
    path.write_bytes(data)
    reader = store.open(chunk.record)
    assert reader is not None and whole is not None and not reader.is_lossless
    for index in (2, 0):
        keys, values = reader.layer(index)
        assert torch.equal(keys, whole.keys[index]) and torch.equal(values, whole.values[index])
    with pytest.raises(CorruptChunk, match="layer 1"):
        reader.layer(1)
    assert chunk.record.chunk_id not in store


@lossy
def test_changed_bytes_are_detected_before_anything_is_decoded(
    make_chunk: MakeChunk, monkeypatch: pytest.MonkeyPatch, one: Codec
) -> None:
    chunk, random_ = make_chunk(1, tokens=7), random.Random(0)
    whole = b"".join(encode(chunk, one))
    part = ChunkFile(HeldBytes(bytearray(whole)), chunk.record.chunk_id).parts["kv"]
    decoded: list[bytes] = []
    decode = one.decode

    def watched(payload: memoryview, into: torch.Tensor) -> None:
        decoded.append(bytes(payload))
        decode(payload, into)

    monkeypatch.setattr(one, "decode", watched)
    payloads = {whole[slice(*part.layer_span(index))] for index in range(3)}
    for place in random_.sample(range(len(whole)), 300):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        with pytest.raises(BadFileError):
            ChunkFile(HeldBytes(damaged), chunk.record.chunk_id).chunk()
    assert not decoded
    ChunkFile(HeldBytes(bytearray(whole)), chunk.record.chunk_id).chunk()
    assert set(decoded) == payloads


def test_a_file_of_another_version_stays_and_is_absent_for_a_request(
    tmp_path: Path, make_chunk: MakeChunk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    chunk, store = make_chunk(1), DiskStore(tmp_path, codec=codec("uniform"))
    remote = RemoteStore(redis_url(), mark_of_path(tmp_path), codec=codec("uniform"), deadline_ms=20_000)
    with monkeypatch.context() as later:
        later.setattr(Uniform, "version", 99)
        store.put(chunk)
        remote.put(chunk)
    path = store.path(chunk.record.chunk_id)
    for read in (map_chunk, parts_of, read_record):
        with pytest.raises(
            BadFileError, match="packed by codec uniform/99, which this version .* raw, uniform"
        ):
            read(path, chunk.record.chunk_id)
    for reading in (store, remote):
        with pytest.raises(CorruptChunk, match="uniform/99"):
            reading.get(chunk.record)
        assert reading.record(chunk.record.chunk_id) is None
        assert chunk.record.chunk_id in reading and reading.corrupt_found == 0, "the other version reads it"
    store.put(chunk)
    assert store.get(chunk.record) is not None


def test_a_packed_file_is_a_safetensors_file_too(tmp_path: Path, make_chunk: MakeChunk) -> None:
    chunk = make_chunk(1)
    DiskStore(tmp_path, codec=codec("cachegen")).put(chunk)
    stored = load_file(tmp_path / f"{chunk.record.chunk_id}.safetensors")
    assert stored["kv"].dtype == torch.uint8 and stored["kv"].ndim == 1
    assert tuple(stored["token_ids"].tolist()) == chunk.record.token_ids


@lossy
def test_the_same_chunk_gives_the_same_file(make_chunk: MakeChunk, one: Codec) -> None:
    files = [b"".join(encode(make_chunk(1, tokens=40), one)) for _ in range(2)]
    assert files[0] == files[1]


def test_what_a_memory_tier_keeps_of_a_packed_chunk_is_known_to_be_lossy(
    tmp_path: Path, make_chunk: MakeChunk
) -> None:
    chunk = make_chunk(1)
    store = CachedStore(DiskStore(tmp_path, codec=codec("uniform")), 10_000)
    store.put(chunk)
    reader = store.open(chunk.record)
    assert reader is not None and not reader.is_lossless
    assert not reader.chunk().is_lossless  # promoted
    kept = store.get(chunk.record)
    assert kept is not None and not kept.is_lossless and store.held_bytes


@lossy
def test_recoding_gives_the_file_that_putting_gives_and_keeps_the_last_use(
    tmp_path: Path, make_chunk: MakeChunk, one: Codec
) -> None:
    chunk, store = make_chunk(1, tokens=9), DiskStore(tmp_path)
    store.put(chunk)
    path = store.path(chunk.record.chunk_id)
    os.utime(path, ns=(10**18, 10**18))
    assert recode(store, chunk.record.chunk_id, one)
    assert path.read_bytes() == b"".join(encode(chunk, one))
    assert path.stat().st_mtime_ns == 10**18
    assert not recode(store, chunk.record.chunk_id, one)
    with pytest.raises(LossyError):
        recode(store, chunk.record.chunk_id, RAW)
    left = store.get(chunk.record)
    assert left is not None
    assert recode(store, chunk.record.chunk_id, RAW, from_lossy=True)
    unpacked = store.get(chunk.record)
    assert equal(unpacked, left)
    assert unpacked is not None and not unpacked.is_lossless  # raw restores nothing, and says so
    reader = store.open(chunk.record)
    assert reader is not None and not reader.is_lossless
    with pytest.raises(LossyError):
        recode(store, chunk.record.chunk_id, one)


def test_recoding_leaves_alone_what_is_kept_raw_and_what_is_gone(
    tmp_path: Path, make_chunk: MakeChunk
) -> None:
    prefix, store = make_chunk(1, prefix=0), DiskStore(tmp_path)
    store.put(prefix)
    before = store.path(prefix.record.chunk_id).stat()
    assert not recode(store, prefix.record.chunk_id, codec("cachegen"))
    after = store.path(prefix.record.chunk_id).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not recode(store, "0" * 32, codec("cachegen"))


def test_recoding_changes_nothing_of_a_damaged_file(tmp_path: Path, make_chunk: MakeChunk) -> None:
    chunk, store = make_chunk(1), DiskStore(tmp_path)
    store.put(chunk)
    path = store.path(chunk.record.chunk_id)
    data = bytearray(path.read_bytes())
    data[-80] ^= 4
    path.write_bytes(data)
    with pytest.raises(BadFileError):
        recode(store, chunk.record.chunk_id, codec("cachegen"))
    assert path.read_bytes() == data
