"""The header of a chunk's file: what lies where, and a checksum of every byte, its own included.

::

    8 bytes   length of the JSON, little-endian
    JSON      {"__metadata__": {...}, name: {"dtype", "shape", "data_offsets"}, ...}, padded with spaces
    parts     one after the other, the first at a multiple of 64 bytes

It is a safetensors header in one canonical form: equal chunks give equal files, which the library's own
writer does not (it orders metadata at random).
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import xxhash

from blend.errors import StoreError

FILE_VERSION = "2"
ALIGNMENT = 64
"""Of the first part, in bytes; a layer can be viewed in its own dtype wherever the file is mapped."""
MAX_HEADER_BYTES = 1 << 20
LENGTH_BYTES = 8
_UNSIGNED = "0" * 16
"""Stands where the header's own checksum will, while that is computed."""

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I32": torch.int32,
    "U8": torch.uint8,
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class BadFileError(Exception):
    """A file is not what was written; the message says in what."""


@dataclass(frozen=True, slots=True)
class Part:
    """A tensor of the file.

    Attributes:
        start, stop: its bytes, counted from the beginning of the file.
        checksums: xxh3_64 in hexadecimal, one for each of equal runs of its bytes.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    stop: int
    checksums: tuple[str, ...]


def build_header(chunk_id: str, tensors: Mapping[str, torch.Tensor], checksums: Mapping[str, str]) -> bytes:
    """Everything of a file that stands before its parts.

    Args:
        tensors: the parts, in their order in the file.
        checksums: of each part, separated by spaces.

    Raises:
        StoreError: a tensor is of a dtype that the format does not know.
    """
    metadata = {"version": FILE_VERSION, "chunk": chunk_id, "header": _UNSIGNED, **checksums}
    entries: dict[str, Any] = {"__metadata__": metadata}
    stop = 0
    for name, tensor in tensors.items():
        start, stop = stop, stop + tensor.nbytes
        shape = list(tensor.shape)
        entries[name] = {"dtype": _name(tensor.dtype), "shape": shape, "data_offsets": [start, stop]}
    unsigned = json.dumps(entries, separators=(",", ":")).encode()
    unsigned += b" " * (-(LENGTH_BYTES + len(unsigned)) % ALIGNMENT)
    return _with_length(_signed(unsigned, _checksum(_with_length(unsigned))))


def header_bytes(head: bytes) -> int:
    """How many bytes stand before the parts, told by the first eight.

    Raises:
        BadFileError: there are no eight, or they tell nonsense.
    """
    if len(head) < LENGTH_BYTES:
        raise BadFileError(f"{len(head)} bytes, no header")
    (length,) = struct.unpack_from("<Q", head)
    if length > MAX_HEADER_BYTES:
        raise BadFileError(f"a header of {length} bytes, expected at most {MAX_HEADER_BYTES}")
    return LENGTH_BYTES + int(length)


def parse_header(head: bytes, chunk_id: str, file_bytes: int) -> dict[str, Part]:
    """The parts of a file by name.

    Args:
        head: the file's first `header_bytes`.
        chunk_id: what the file is expected to hold.
        file_bytes: size of the file.

    Raises:
        BadFileError: a byte of the header differs, the file is not whole, or it holds another chunk.
    """
    try:
        entries = json.loads(head[LENGTH_BYTES:])
        metadata = entries.pop("__metadata__")
        version, checksum = metadata["version"], metadata["header"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadFileError("its header cannot be read") from error
    if version != FILE_VERSION:
        raise BadFileError(f"format version {version}, expected {FILE_VERSION}")
    if checksum != _checksum(_with_length(_signed(head[LENGTH_BYTES:], _UNSIGNED, checksum))):
        raise BadFileError("checksum of the header differs")
    # From here on the header is what was written, so its fields are there and fit each other.
    parts = {name: _part(entry, metadata[name], len(head)) for name, entry in entries.items()}
    whole = max(part.stop for part in parts.values())
    if whole != file_bytes:
        raise BadFileError(f"{file_bytes} bytes, expected {whole}")
    if metadata["chunk"] != chunk_id:
        raise BadFileError(f"it holds chunk {metadata['chunk']}")
    return parts


def _name(dtype: torch.dtype) -> str:
    try:
        return _NAMES[dtype]
    except KeyError:
        raise StoreError(f"chunk KV of {dtype} cannot be stored; expected one of {[*_NAMES]}") from None


def _part(entry: dict[str, Any], checksums: str, base: int) -> Part:
    start, stop = entry["data_offsets"]
    dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
    return Part(dtype, shape, base + start, base + stop, tuple(checksums.split()))


def _with_length(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _signed(text: bytes, checksum: str, instead_of: str = _UNSIGNED) -> bytes:
    return text.replace(f'"header":"{instead_of}"'.encode(), f'"header":"{checksum}"'.encode(), 1)


def _checksum(data: bytes) -> str:
    return xxhash.xxh3_64_hexdigest(data)
