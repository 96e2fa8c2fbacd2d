"""The file format of the disk tier: one chunk as bytes, and back layer by layer, every byte under a checksum.

::

    header      see `blend.store.chunk_header`
    kv          [L, 2, T, H, D]      keys = kv[:, 0], values = kv[:, 1]; a checksum per layer
    scores      float32 [T]          optional
    token_ids   int32 [T]
    prefix_ids  int32 [P]            P may be 0
"""

import mmap
import os
from pathlib import Path

import torch
import xxhash

from blend.chunk import ChunkKV, ChunkRecord
from blend.store.chunk_header import (
    LENGTH_BYTES,
    BadFileError,
    Part,
    build_header,
    header_bytes,
    parse_header,
)

HEAD_BYTES = 4096
"""Read at first: the header of a model of up to some 200 layers."""


def encode(chunk: ChunkKV) -> list[bytes | memoryview]:
    """A chunk as the bytes of its file, in pieces; equal chunks give equal bytes.

    Args:
        chunk: tensors on any device, in any dtype of `blend.store.chunk_header.DTYPES`.
    """
    tensors = {"kv": torch.stack((chunk.keys, chunk.values), dim=1).cpu()}  # [L, 2, T, H, D]
    if chunk.scores is not None:
        tensors["scores"] = chunk.scores.to("cpu", torch.float32)
    tensors["token_ids"] = torch.tensor(chunk.record.token_ids, dtype=torch.int32)
    tensors["prefix_ids"] = torch.tensor(chunk.record.prefix_ids, dtype=torch.int32)
    checksums = {name: _checksum(_bytes_of(tensor)) for name, tensor in tensors.items()}
    checksums["kv"] = " ".join(_checksum(_bytes_of(layer)) for layer in tensors["kv"])
    header = build_header(chunk.record.chunk_id, tensors, checksums)
    return [header, *map(_bytes_of, tensors.values())]


class ChunkFile:
    """The bytes of a chunk's file, each part verified as it is read; see `blend.store.base.ChunkReader`.

    Its methods raise `BadFileError` where a check fails. Tensors are views of the bytes.

    Args:
        data: writable, as torch wants it, and never written to; it stays alive as long as a tensor does.
        chunk_id: what the bytes are expected to hold.

    Attributes:
        record: what they do hold.
        num_layers: L.

    Raises:
        BadFileError: the header or the ids failed their checks.
    """

    def __init__(self, data: bytearray | mmap.mmap, chunk_id: str) -> None:
        head = bytes(data[: header_bytes(bytes(data[:LENGTH_BYTES]))])
        self._bytes = torch.frombuffer(data, dtype=torch.uint8)
        self._parts = parse_header(head, chunk_id, len(data))
        ids = (tuple(self._tensor(name).tolist()) for name in ("token_ids", "prefix_ids"))
        self.record = ChunkRecord(chunk_id, *ids)
        self.num_layers = self._parts["kv"].shape[0]

    def layer(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values [T, H, D] of one layer; no other layer is touched."""
        part = self._parts["kv"]
        size = (part.stop - part.start) // self.num_layers
        start = part.start + index * size
        data = self._bytes[start : start + size]
        if _checksum(_bytes_of(data)) != part.checksums[index]:
            raise BadFileError(f"checksum of layer {index} differs")
        kv = data.view(part.dtype).view(part.shape[1:])
        return kv[0], kv[1]

    def scores(self) -> torch.Tensor | None:
        """float32 [T], or None."""
        return self._tensor("scores") if "scores" in self._parts else None

    def chunk(self) -> ChunkKV:
        """All of it: every byte is verified."""
        for index in range(self.num_layers):
            self.layer(index)
        part = self._parts["kv"]
        kv = self._bytes[part.start : part.stop].view(part.dtype).view(part.shape)
        return ChunkKV(self.record, kv[:, 0], kv[:, 1], self.scores())

    def _tensor(self, name: str) -> torch.Tensor:
        part = self._parts[name]
        data = self._bytes[part.start : part.stop]
        _check(name, part, _bytes_of(data))
        return data.view(part.dtype).view(part.shape)


def map_chunk(path: Path, chunk_id: str) -> ChunkFile:
    """A chunk's file, mapped into memory: what is not asked for is not read.

    Raises:
        BadFileError: the header or the ids failed their checks.
        OSError: the file cannot be opened; FileNotFoundError when it is absent.
    """
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise BadFileError("0 bytes, no header")  # and nothing that could be mapped
        # Private, so torch may call it writable; it is unmapped when the last tensor goes.
        return ChunkFile(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), chunk_id)


def read_parts(path: Path, chunk_id: str) -> dict[str, Part]:
    """What a file's header says; reads nothing else.

    Raises:
        BadFileError: the header failed its check.
        OSError: the file cannot be opened.
    """
    with open(path, "rb", buffering=0) as file:
        return _read_parts(file.fileno(), chunk_id)


def read_record(path: Path, chunk_id: str) -> ChunkRecord:
    """What a file says it holds; reads the header and the ids only.

    Raises:
        BadFileError: the header or the ids failed their checks.
        OSError: the file cannot be opened.
    """
    # Not mapped: three times slower, and 10,000 are read at start.
    with open(path, "rb", buffering=0) as file:
        parts = _read_parts(file.fileno(), chunk_id)
        ids = (_read_ids(file.fileno(), name, parts[name]) for name in ("token_ids", "prefix_ids"))
        return ChunkRecord(chunk_id, *ids)


def _read_parts(descriptor: int, chunk_id: str) -> dict[str, Part]:
    head = os.pread(descriptor, HEAD_BYTES, 0)
    length = header_bytes(head)
    if length > len(head):
        head = os.pread(descriptor, length, 0)
    return parse_header(head[:length], chunk_id, os.fstat(descriptor).st_size)


def _read_ids(descriptor: int, name: str, part: Part) -> tuple[int, ...]:
    data = os.pread(descriptor, part.stop - part.start, part.start)
    _check(name, part, data)
    return tuple(memoryview(data).cast("i"))


def _check(name: str, part: Part, data: bytes | memoryview) -> None:
    if (_checksum(data),) != part.checksums:
        raise BadFileError(f"checksum of {name} differs")


def _checksum(data: bytes | memoryview) -> str:
    return xxhash.xxh3_64_hexdigest(data)


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    # Viewed as bytes, since numpy knows neither bfloat16 nor float8.
    flat = tensor.contiguous().reshape(-1).view(torch.uint8)
    view: memoryview = flat.numpy().data
    return view
