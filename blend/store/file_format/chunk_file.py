"""The file format of the disk tier: one chunk as bytes, and back layer by layer, every byte under a checksum.

::

    header      see `blend.store.file_format.chunk_header`
    token_ids   int32 [T]
    prefix_ids  int32 [P]            P may be 0
    position_gap  int32 [2]          after, by; optional
    kv          [L, 2, T, H, D]      keys = kv[:, 0], values = kv[:, 1]; a checksum per layer

If a codec has packed it, `kv` is uint8 [bytes], layer after layer. It stands last, so that a file's beginning
holds all that a record needs.
"""

import math
import mmap
import os
from pathlib import Path

import torch
import xxhash

from blend.chunks.chunk import ChunkKV, ChunkRecord, PositionGap
from blend.store.codecs import by_tag, fitting, tag_of
from blend.store.codecs.base import RAW, Codec
from blend.store.file_format.byte_source import ByteSource, FileBytes, HeldBytes
from blend.store.file_format.chunk_header import (
    LENGTH_BYTES,
    BadFileError,
    Packing,
    Part,
    build_header,
    header_bytes,
    parse_header,
)


def encode(chunk: ChunkKV, codec: Codec = RAW) -> list[bytes | memoryview]:
    """A chunk as the bytes of its file, in pieces; equal chunks give equal bytes.

    Args:
        chunk: tensors on any device, in any dtype of `blend.store.file_format.chunk_header.DTYPES`.
        codec: what packs it; a chunk that is not for it is written raw, see `blend.store.codecs.fitting`.
    """
    kv = torch.stack((chunk.keys, chunk.values), dim=1).cpu()  # [L, 2, T, H, D]
    runs, packing = list(map(_bytes_of, kv)), None
    if fitting(codec, chunk.record, kv) is not RAW:
        runs = [memoryview(codec.encode(layer, index, len(kv))) for index, layer in enumerate(kv)]
        packing = Packing(tag_of(codec), kv.dtype, tuple(kv.shape), tuple(run.nbytes for run in runs))
        kv = torch.frombuffer(bytearray(b"".join(runs)), dtype=torch.uint8)
    tensors = {}
    tensors["token_ids"] = torch.tensor(chunk.record.token_ids, dtype=torch.int32)
    tensors["prefix_ids"] = torch.tensor(chunk.record.prefix_ids, dtype=torch.int32)
    if chunk.record.position_gap is not None:
        tensors["position_gap"] = torch.tensor(
            [chunk.record.position_gap.after, chunk.record.position_gap.by], dtype=torch.int32
        )
    tensors["kv"] = kv
    checksums = {name: _checksum(_bytes_of(tensor)) for name, tensor in tensors.items()}
    checksums["kv"] = " ".join(map(_checksum, runs))
    is_unpacked = packing is None and not chunk.is_lossless
    header = build_header(chunk.record.chunk_id, tensors, checksums, packing, is_unpacked=is_unpacked)
    return [header, *map(_bytes_of, tensors.values())]


class ChunkFile:
    """A chunk's file, each part verified as it is read; see `blend.store.handle.ChunkHandle`.

    Its methods raise `BadFileError` where a check fails, and what the source raises. Tensors are what the
    source gives.

    Args:
        source: where the bytes come from.
        chunk_id: what the bytes are expected to hold.

    Attributes:
        record: what they do hold.
        parts: its tensors by name.
        num_layers: L.
        codec: what packed it.
        is_lossless: whether these are the numbers that were computed, see `ChunkKV`.

    Raises:
        BadFileError: the header or the ids failed their checks, or the codec is not known.
    """

    def __init__(self, source: ByteSource, chunk_id: str) -> None:
        self._source = source
        self.parts = read_parts(source, chunk_id)
        position_gap = PositionGap(*self._ids("position_gap")) if "position_gap" in self.parts else None
        self.record = ChunkRecord(chunk_id, self._ids("token_ids"), self._ids("prefix_ids"), position_gap)
        self.num_layers = self.parts["kv"].num_layers
        self.codec = codec_of(self.parts["kv"])
        self.is_lossless = self.codec.is_lossless and not self.parts["kv"].is_unpacked

    def layer(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values [T, H, D] of one layer; no other layer is touched."""
        part = self.parts["kv"]
        data = self._source.read(*part.layer_span(index))
        self._check_layer(index, data)
        if part.packing is None:
            kv = _tensor_of(data, part.dtype, part.shape[1:])
        else:
            kv = torch.empty(part.packing.shape[1:], dtype=part.packing.dtype)
            self.codec.decode(data, kv)
        return kv[0], kv[1]

    def chunk(self) -> ChunkKV:
        """All of it: every byte is verified. The layers are read at once."""
        part, (data, layers) = self.parts["kv"], self._checked_layers()
        if part.packing is None:
            kv = _tensor_of(data, part.dtype, part.shape)
        else:
            kv = torch.empty(part.packing.shape, dtype=part.packing.dtype)
            for layer, into in zip(layers, kv, strict=True):
                self.codec.decode(layer, into)
        return ChunkKV(self.record, kv[:, 0], kv[:, 1], self.is_lossless)

    @property
    def num_bytes(self) -> int:
        """Bytes of keys and values that `chunk` returns."""
        kv = self.parts["kv"]
        if kv.packing is None:
            return kv.stop - kv.start
        return math.prod(kv.packing.shape) * kv.packing.dtype.itemsize

    @property
    def data(self) -> memoryview:
        """The whole file."""
        return self._source.read(0, self._source.num_bytes)

    def check(self) -> None:
        """Verify every byte, and unpack none."""
        self._checked_layers()

    def _checked_layers(self) -> tuple[memoryview, list[memoryview]]:
        """The bytes of keys and values, and those of each layer."""
        part = self.parts["kv"]
        data = self._source.read(part.start, part.stop)
        spans = (part.layer_span(index) for index in range(self.num_layers))
        layers = [data[start - part.start : stop - part.start] for start, stop in spans]
        for index, layer in enumerate(layers):
            self._check_layer(index, layer)
        return data, layers

    def _check_layer(self, index: int, data: memoryview) -> None:
        if _checksum(data) != self.parts["kv"].checksums[index]:
            raise BadFileError(f"checksum of layer {index} differs")

    def _ids(self, name: str) -> tuple[int, ...]:
        return tuple(self._checked(name).cast("i"))

    def _checked(self, name: str) -> memoryview:
        """The bytes of a small part. No tensor is made of them: that takes longer than reading them."""
        part = self.parts[name]
        data = self._source.read(part.start, part.stop)
        if (_checksum(data),) != part.checksums:
            raise BadFileError(f"checksum of {name} differs")
        return data


def codec_of(kv: Part) -> Codec:
    """What packed the keys and values of a file."""
    codec = RAW if kv.packing is None else by_tag(kv.packing.codec)
    assert codec is not None, "its header was parsed"
    return codec


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
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        return ChunkFile(HeldBytes(data), chunk_id)


def read_parts(source: ByteSource, chunk_id: str) -> dict[str, Part]:
    """What a file's header says; reads nothing else.

    Raises:
        BadFileError: the header failed its check.
    """
    length = header_bytes(bytes(source.read(0, LENGTH_BYTES)))
    return parse_header(bytes(source.read(0, length)), chunk_id, source.num_bytes)


def read_record(path: Path, chunk_id: str) -> ChunkRecord:
    """What a file says it holds; reads the header and the ids only.

    Raises:
        BadFileError: the header or the ids failed their checks.
        OSError: the file cannot be opened.
    """
    with open(path, "rb", buffering=0) as file:
        return ChunkFile(FileBytes(file.fileno()), chunk_id).record


def _checksum(data: bytes | memoryview) -> str:
    return xxhash.xxh3_64_hexdigest(data)


def _tensor_of(data: memoryview, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    """A view of bytes; it keeps alive what they lie in."""
    if not data.nbytes:
        return torch.empty(shape, dtype=dtype)
    # torch knows no read-only tensors: a client's reply is copied here.
    writable = bytearray(data) if data.readonly else data
    return torch.frombuffer(writable, dtype=dtype).view(shape)


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    # Viewed as bytes, since numpy knows neither bfloat16 nor float8.
    flat = tensor.contiguous().reshape(-1).view(torch.uint8)
    view: memoryview = flat.numpy().data
    return view
