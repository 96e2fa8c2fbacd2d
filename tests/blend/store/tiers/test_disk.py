"""What the disk tier does with damage, full disks, dead writers and many files."""

import errno
import logging
import os
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from blend.chunks.chunk import ChunkKV, make_record
from blend.errors import CorruptChunk, StoreError, StoreFull
from blend.store.file_format.byte_source import HeldBytes
from blend.store.file_format.chunk_file import ChunkFile, encode
from blend.store.file_format.chunk_header import BadFileError
from blend.store.file_format.durable import drop_page_cache
from blend.store.tiers.disk import DiskStore
from tests.support.yardstick import soonest_s, unit_s

MakeChunk = Callable[..., ChunkKV]


def test_a_thousand_changed_bytes_are_all_detected_and_none_is_served(
    tmp_path: Path, make_chunk: MakeChunk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    store, random_ = DiskStore(tmp_path), random.Random(0)
    chunks = [make_chunk(seed, tokens=3 + seed) for seed in range(10)]
    for i in range(1000):
        chunk = chunks[i % len(chunks)]
        data = bytearray(b"".join(encode(chunk)))
        data[random_.randrange(len(data))] ^= random_.randrange(1, 256)
        store.path(chunk.record.chunk_id).write_bytes(data)
        with pytest.raises(CorruptChunk):
            store.get(chunk.record)
        assert store.corrupt_found == i + 1
        assert chunk.record.chunk_id not in store


def test_every_byte_of_a_file_is_under_a_checksum(make_chunk: MakeChunk) -> None:
    chunk = make_chunk(1)
    whole = b"".join(encode(chunk))
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        with pytest.raises(BadFileError):
            ChunkFile(HeldBytes(damaged), chunk.record.chunk_id).chunk()


def test_damage_of_one_layer_is_found_when_that_layer_is_read(tmp_path: Path, make_chunk: MakeChunk) -> None:
    store, chunk = DiskStore(tmp_path), make_chunk(1)
    store.put(chunk)
    path = store.path(chunk.record.chunk_id)
    place = path.read_bytes().index(chunk.values[1].numpy().tobytes())
    with open(path, "r+b") as file:
        file.seek(place)
        file.write(b"\xff")
    reader = store.open(chunk.record)
    assert reader is not None and reader.num_layers == 3
    for index in (0, 2):
        keys, values = reader.layer(index)
        assert torch.equal(keys, chunk.keys[index]) and torch.equal(values, chunk.values[index])
    assert chunk.record.chunk_id in store
    with pytest.raises(CorruptChunk, match="layer 1"):
        reader.layer(1)
    assert chunk.record.chunk_id not in store


def test_a_file_is_what_safetensors_reads_too(tmp_path: Path, make_chunk: MakeChunk) -> None:
    chunk = make_chunk(1, dtype=torch.bfloat16)
    DiskStore(tmp_path).put(chunk)
    stored = load_file(tmp_path / f"{chunk.record.chunk_id}.safetensors")
    assert torch.equal(stored["kv"][:, 0], chunk.keys) and torch.equal(stored["kv"][:, 1], chunk.values)
    assert tuple(stored["token_ids"].tolist()) == chunk.record.token_ids
    assert tuple(stored["prefix_ids"].tolist()) == chunk.record.prefix_ids


def test_equal_chunks_make_equal_files(make_chunk: MakeChunk) -> None:
    assert encode(make_chunk(1)) == encode(make_chunk(1))


def test_a_dtype_that_the_format_does_not_know_is_a_clear_error(
    tmp_path: Path, make_chunk: MakeChunk
) -> None:
    with pytest.raises(StoreError, match=r"int64 cannot be stored; expected one of"):
        DiskStore(tmp_path).put(make_chunk(1, dtype=torch.int64))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept", [0, 4, 8, 100, -100, -1])
def test_truncated_file(tmp_path: Path, make_chunk: MakeChunk, kept: int) -> None:
    store, chunk = DiskStore(tmp_path), make_chunk(1)
    path = tmp_path / f"{chunk.record.chunk_id}.safetensors"
    path.write_bytes(b"".join(encode(chunk))[:kept])
    assert store.record(chunk.record.chunk_id) is None
    path.write_bytes(b"".join(encode(chunk))[:kept])
    with pytest.raises(CorruptChunk, match="compute it again"):
        store.get(chunk.record)
    assert store.corrupt_found == 2
    assert store.get(chunk.record) is None
    store.put(chunk)
    assert store.get(chunk.record) is not None


def test_another_chunks_file_under_this_id(
    tmp_path: Path, make_chunk: MakeChunk, caplog: pytest.LogCaptureFixture
) -> None:
    store, chunk = DiskStore(tmp_path), make_chunk(1)
    (tmp_path / f"{chunk.record.chunk_id}.safetensors").write_bytes(b"".join(encode(make_chunk(2))))
    with pytest.raises(CorruptChunk, match="it holds chunk"):
        store.get(chunk.record)
    assert len(caplog.records) == 1


def full_disk(code: int) -> Callable[[int], None]:
    def refuse(_: int) -> None:
        raise OSError(code, os.strerror(code))

    return refuse


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_loses_nothing(
    tmp_path: Path, make_chunk: MakeChunk, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    store, one, two = DiskStore(tmp_path), make_chunk(1), make_chunk(2)
    store.put(one)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full_disk(code))
        with pytest.raises(StoreFull, match="no space left"):
            store.put(two)
    assert [path.stem for path in tmp_path.iterdir()] == [one.record.chunk_id]
    assert store.get(one.record) is not None
    store.put(two)
    assert store.get(two.record) is not None


def test_a_place_that_is_no_folder_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        DiskStore(tmp_path / "file" / "chunks")


def test_only_old_leftovers_of_dead_writers_are_removed(tmp_path: Path, make_chunk: MakeChunk) -> None:
    chunk = make_chunk(1)
    DiskStore(tmp_path).put(chunk)
    old, young = tmp_path / ".a.0.tmp", tmp_path / ".b.0.tmp"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    store = DiskStore(tmp_path)
    assert not old.exists()
    assert young.exists()
    assert list(store.ids()) == [chunk.record.chunk_id]


def test_an_unreadable_file_is_not_thrown_away(
    tmp_path: Path, make_chunk: MakeChunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, chunk = DiskStore(tmp_path), make_chunk(1)
    store.put(chunk)

    def too_many_files(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:
        patched.setattr("mmap.mmap", too_many_files)
        with pytest.raises(CorruptChunk, match="cannot be read"):
            store.get(chunk.record)
    assert store.corrupt_found == 0
    assert store.get(chunk.record) is not None


@pytest.mark.parametrize("name", ["../escape", "", "a/b", ".hidden", "What is this?", "a" * 5000])
def test_a_text_that_is_no_id_is_absent_and_never_leaves_the_folder(
    tmp_path: Path, make_chunk: MakeChunk, name: str
) -> None:
    chunk = make_chunk(1)
    (tmp_path / "escape.safetensors").write_bytes(b"".join(encode(chunk)))
    store, record = DiskStore(tmp_path / "chunks"), replace(chunk.record, chunk_id=name)
    assert store.record(name) is None
    assert store.get(record) is None
    assert name not in store
    store.delete(name)
    assert (tmp_path / "escape.safetensors").exists()
    with pytest.raises(StoreError, match="no chunk id"):
        store.put(replace(chunk, record=record))


def test_reading_one_layer_reads_no_other(tmp_path: Path) -> None:
    big = torch.randn(8, 2000, 8, 64)  # a layer is 8 MB: far more than the kernel reads ahead
    chunk = ChunkKV(make_record("model", (), range(2000)), big, big)
    store = DiskStore(tmp_path)
    store.put(chunk)
    drop_page_cache(store.path(chunk.record.chunk_id))
    reader = store.open(chunk.record)
    assert reader is not None
    before = touched_bytes()
    keys, values = reader.layer(3)
    assert touched_bytes() - before < 3 * (keys.nbytes + values.nbytes)
    assert keys.is_contiguous() and values.is_contiguous()
    assert torch.equal(keys, big[3]) and torch.equal(values, big[3])


def touched_bytes() -> int:
    """Pages of files that this process has mapped and touched."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssFile:"))


def test_records_of_many_chunks_are_read_quickly_at_start(tmp_path: Path) -> None:
    store = DiskStore(tmp_path)
    big = torch.randn(4, 512, 2, 16)
    for i in range(100):
        record = make_record("model", range(40), range(i, i + 512))
        (tmp_path / f"{record.chunk_id}.safetensors").write_bytes(b"".join(encode(ChunkKV(record, big, big))))
    records = [store.record(chunk_id) for chunk_id in store.ids()]
    assert all(record is not None and record.num_tokens == 512 for record in records)
    each_s = soonest_s(lambda: [store.record(chunk_id) for chunk_id in store.ids()]) / 100
    assert each_s < 0.4 * unit_s(), "about a fiftieth: 0.1 ms"
