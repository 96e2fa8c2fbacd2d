"""What the disk tier does with damage, full disks, dead writers and many files."""

import errno
import os
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from blend.chunk import ChunkKV, make_record
from blend.errors import CorruptChunk, StoreError, StoreFull
from blend.store.chunk_file import encode
from blend.store.disk import DiskStore

MakeChunk = Callable[..., ChunkKV]


def test_every_flipped_bit_is_found_or_harmless(tmp_path: Path, make_chunk: MakeChunk) -> None:
    store, chunk = DiskStore(tmp_path), make_chunk(1, scores=True)
    path, whole = tmp_path / f"{chunk.record.chunk_id}.safetensors", encode(chunk)
    # All of the header and the ids, which is where structure lies, and some of the numbers.
    header_end = 8 + int.from_bytes(whole[:8], "little")
    places = [*range(header_end), *random.Random(0).sample(range(header_end, len(whole)), 150)]
    found = 0
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            got = store.get(chunk.record)
        except CorruptChunk:
            found += 1
            assert not path.exists()
            continue
        assert got is not None
        assert torch.equal(got.keys, chunk.keys)
        assert torch.equal(got.values, chunk.values)
        assert torch.equal(got.scores, chunk.scores)
        path.unlink()
    assert found == store.corrupt_found
    assert found > 0.9 * len(places)  # harmless: the padding of the header only


@pytest.mark.parametrize("kept", [0, 4, 8, 100, -100, -1])
def test_truncated_file(tmp_path: Path, make_chunk: MakeChunk, kept: int) -> None:
    store, chunk = DiskStore(tmp_path), make_chunk(1)
    path = tmp_path / f"{chunk.record.chunk_id}.safetensors"
    path.write_bytes(encode(chunk)[:kept])
    assert store.record(chunk.record.chunk_id) is None
    path.write_bytes(encode(chunk)[:kept])
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
    (tmp_path / f"{chunk.record.chunk_id}.safetensors").write_bytes(encode(make_chunk(2)))
    with pytest.raises(CorruptChunk, match="token ids"):
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

    def too_many_files(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:
        patched.setattr("blend.store.chunk_file.safe_open", too_many_files)
        with pytest.raises(CorruptChunk, match="cannot be read"):
            store.get(chunk.record)
    assert store.corrupt_found == 0
    assert store.get(chunk.record) is not None


@pytest.mark.parametrize("name", ["../escape", "", "a/b", ".hidden", "What is this?", "a" * 5000])
def test_a_text_that_is_no_id_is_absent_and_never_leaves_the_folder(
    tmp_path: Path, make_chunk: MakeChunk, name: str
) -> None:
    chunk = make_chunk(1)
    (tmp_path / "escape.safetensors").write_bytes(encode(chunk))
    store, record = DiskStore(tmp_path / "chunks"), replace(chunk.record, chunk_id=name)
    assert store.record(name) is None
    assert store.get(record) is None
    assert name not in store
    store.delete(name)
    assert (tmp_path / "escape.safetensors").exists()
    with pytest.raises(StoreError, match="no chunk id"):
        store.put(replace(chunk, record=record))


def test_one_layer_is_one_contiguous_run_that_can_be_read_alone(
    tmp_path: Path, make_chunk: MakeChunk
) -> None:
    chunk = make_chunk(1)
    DiskStore(tmp_path).put(chunk)
    with safe_open(tmp_path / f"{chunk.record.chunk_id}.safetensors", "pt") as file:
        layer = file.get_slice("kv")[1]  # [2, T, H, D]
    assert layer.is_contiguous()
    assert torch.equal(layer[0], chunk.keys[1])
    assert torch.equal(layer[1], chunk.values[1])


def test_records_of_many_chunks_are_read_quickly_at_start(tmp_path: Path) -> None:
    store = DiskStore(tmp_path)
    big = torch.randn(4, 512, 2, 16)
    for i in range(100):
        record = make_record("model", range(40), range(i, i + 512))
        (tmp_path / f"{record.chunk_id}.safetensors").write_bytes(encode(ChunkKV(record, big, big)))
    start = time.perf_counter()
    records = [store.record(chunk_id) for chunk_id in store.ids()]
    each_s = (time.perf_counter() - start) / 100
    assert all(record is not None and record.num_tokens == 512 for record in records)
    assert each_s < 0.002  # 0.1 ms on an idle machine; the bound leaves room for a busy one
