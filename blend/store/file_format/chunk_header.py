"""The header of a chunk's file: what lies where, and a checksum of every byte, its own included.

::

    8 bytes   length of the JSON, little-endian
    JSON      {"__metadata__": {...}, name: {"dtype", "shape", "data_offsets"}, ...}, padded with spaces
    parts     one after the other, the last (`kv`) at a multiple of 64 bytes

It is a safetensors header in one canonical form: equal chunks give equal files, which the library's own
writer does not (it orders metadata at random).
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import xxhash

from blend.errors import StoreError
from blend.store.codecs import NAMES, by_tag

FILE_VERSION = "4"
PACKED_VERSION = "5"
"""Of files whose numbers a codec has packed, or had; all others are as they were before there were codecs."""
ALIGNMENT = 64
"""Of the last part, in bytes: a layer can be viewed in its own dtype wherever the file is mapped."""
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


class UnknownFormatError(BadFileError):
    """Another version of kvblend wrote the file. It is left as it is: that version still reads it."""


@dataclass(frozen=True, slots=True)
class Packing:
    """How a codec has packed the keys and values of a file; in its header as text.

    Attributes:
        codec: its name and version, see `blend.store.codecs`.
        dtype, shape: of `kv` when unpacked, [L, 2, T, H, D].
        sizes: bytes of each layer's payload; they stand one after the other.
    """

    codec: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    sizes: tuple[int, ...]

    def to_metadata(self) -> dict[str, str]:
        """As entries of a header."""
        unpacked = " ".join(map(str, (_name(self.dtype), *self.shape)))
        return {"codec": self.codec, "unpacked": unpacked, "sizes": " ".join(map(str, self.sizes))}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "Packing":
        """Inverse of `to_metadata`."""
        dtype, *shape = metadata["unpacked"].split()
        sizes = tuple(map(int, metadata["sizes"].split()))
        return cls(metadata["codec"], DTYPES[dtype], tuple(map(int, shape)), sizes)


@dataclass(frozen=True, slots=True)
class Part:
    """A tensor of the file.

    Attributes:
        start, stop: its bytes, counted from the beginning of the file.
        checksums: xxh3_64 in hexadecimal, one for each run of its bytes: `packing.sizes`, or equal ones.
        packing: of `kv`, when a codec has packed it; its bytes are uint8 then.
        is_unpacked: of `kv`, whether it is what a lossy codec had left.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    stop: int
    checksums: tuple[str, ...]
    packing: Packing | None = None
    is_unpacked: bool = False

    @property
    def num_layers(self) -> int:
        return len(self.checksums)

    def layer_span(self, index: int) -> tuple[int, int]:
        """Where the bytes of one run stand in the file."""
        if self.packing is None:
            size = (self.stop - self.start) // self.num_layers
            return self.start + index * size, self.start + (index + 1) * size
        start = self.start + sum(self.packing.sizes[:index])
        return start, start + self.packing.sizes[index]


def build_header(
    chunk_id: str,
    tensors: Mapping[str, torch.Tensor],
    checksums: Mapping[str, str],
    packing: Packing | None = None,
    *,
    is_unpacked: bool = False,
) -> bytes:
    """Everything of a file that stands before its parts.

    Args:
        tensors: the parts, in their order in the file.
        checksums: of each part, separated by spaces.
        packing: of `kv`, when a codec has packed it.
        is_unpacked: whether `kv` is what a lossy codec had left.

    Raises:
        StoreError: a tensor is of a dtype that the format does not know.
    """
    packed = {} if packing is None else packing.to_metadata()
    if is_unpacked:
        packed["unpacked_from"] = "lossy"
    version = PACKED_VERSION if packed else FILE_VERSION
    metadata = {"version": version, "chunk": chunk_id, "header": _UNSIGNED, **checksums, **packed}
    entries: dict[str, Any] = {"__metadata__": metadata}
    stop = before_last = 0
    for name, tensor in tensors.items():
        start, stop = stop, stop + tensor.nbytes
        before_last = start
        shape = list(tensor.shape)
        entries[name] = {"dtype": _name(tensor.dtype), "shape": shape, "data_offsets": [start, stop]}
    unsigned = json.dumps(entries, separators=(",", ":")).encode()
    unsigned += b" " * (-(LENGTH_BYTES + len(unsigned) + before_last) % ALIGNMENT)
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
    if checksum != _checksum(_with_length(_signed(head[LENGTH_BYTES:], _UNSIGNED, checksum))):
        raise BadFileError("checksum of the header differs")
    if version not in (FILE_VERSION, PACKED_VERSION):
        raise UnknownFormatError(f"format version {version}, expected {FILE_VERSION} or {PACKED_VERSION}")
    # From here on the header is what was written, so its fields are there and fit each other.
    parts = {name: _part(entry, metadata[name], len(head)) for name, entry in entries.items()}
    is_unpacked = "unpacked_from" in metadata
    parts["kv"] = replace(parts["kv"], packing=_packing(metadata), is_unpacked=is_unpacked)
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


def _packing(metadata: Mapping[str, str]) -> Packing | None:
    if "codec" not in metadata:
        return None
    packing = Packing.from_metadata(metadata)
    if by_tag(packing.codec) is None:
        raise UnknownFormatError(
            f"packed by codec {packing.codec}, which this version of kvblend cannot read (it has "
            f"{', '.join(NAMES)})"
        )
    return packing


def _with_length(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _signed(text: bytes, checksum: str, instead_of: str = _UNSIGNED) -> bytes:
    return text.replace(f'"header":"{instead_of}"'.encode(), f'"header":"{checksum}"'.encode(), 1)


def _checksum(data: bytes) -> str:
    return xxhash.xxh3_64_hexdigest(data)
