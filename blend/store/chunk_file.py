"""The file format of the disk tier: one chunk as bytes, and back, with every bit under a checksum.

::

    token_ids   int32 [T]
    prefix_ids  int32 [P]            P may be 0
    kv          [L, 2, T, H, D]      keys = kv[:, 0], values = kv[:, 1]
    scores      float32 [T]          optional
    metadata    version, layout of kv, one xxh3_64 per layer of kv, one of scores, one of all the rest
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from blend.chunk import ChunkKV, ChunkRecord

FILE_VERSION = "1"
CHECKED_METADATA = ("version", "layout", "layers", "scores")
"""What the checksum named `record` covers beside the ids."""


class BadFileError(Exception):
    """A file is not what was written; the message says in what."""


def encode(chunk: ChunkKV) -> bytes:
    """A chunk as the bytes of its file.

    Args:
        chunk: tensors on any device, in any dtype.
    """
    token_ids = np.array(chunk.record.token_ids, dtype=np.int32)
    prefix_ids = np.array(chunk.record.prefix_ids, dtype=np.int32)
    kv = torch.stack((chunk.keys, chunk.values), dim=1).cpu()  # [L, 2, T, H, D]
    tensors = {"token_ids": torch.from_numpy(token_ids), "prefix_ids": torch.from_numpy(prefix_ids), "kv": kv}
    metadata = {
        "version": FILE_VERSION,
        "layout": _layout(kv),
        "layers": " ".join(_checksum(layer) for layer in kv),
        "scores": "",
    }
    if chunk.scores is not None:
        tensors["scores"] = chunk.scores.to("cpu", torch.float32).contiguous()
        metadata["scores"] = _checksum(tensors["scores"])
    metadata["record"] = _record_checksum(metadata, token_ids, prefix_ids)
    return save(tensors, metadata)


def decode(path: Path, record: ChunkRecord) -> ChunkKV:
    """The chunk in a file, every bit of it verified; the tensors are views of the mapped file.

    Args:
        record: what the file is expected to hold.

    Raises:
        BadFileError: a check failed, or the file holds another chunk.
        OSError: the file cannot be opened; FileNotFoundError when it is absent.
    """
    try:
        with safe_open(path, "pt") as file:
            stored, metadata = _read_record(file, record.chunk_id)
            kv = file.get_tensor("kv")
            scores = file.get_tensor("scores") if metadata["scores"] else None
    except SafetensorError as error:
        raise BadFileError(f"not whole ({error})") from error
    if (stored.token_ids, stored.prefix_ids) != (record.token_ids, record.prefix_ids):
        raise BadFileError("its token ids are not those asked for")
    _verify(metadata, kv, scores)
    return ChunkKV(stored, kv[:, 0], kv[:, 1], scores)


def decode_record(path: Path, chunk_id: str) -> ChunkRecord:
    """What a file says it holds; reads the header and the ids only.

    Raises:
        BadFileError: the header or the ids failed their checks.
        OSError: the file cannot be opened.
    """
    try:
        # Opening for torch maps a storage as well: three times slower, and 10,000 are read at start.
        with safe_open(path, "np") as file:
            return _read_record(file, chunk_id)[0]
    except SafetensorError as error:
        raise BadFileError(f"not whole ({error})") from error


def _read_record(file: Any, chunk_id: str) -> tuple[ChunkRecord, dict[str, str]]:
    metadata: dict[str, str] = file.metadata() or {}
    if metadata.get("version") != FILE_VERSION:
        raise BadFileError(f"format version {metadata.get('version')}, expected {FILE_VERSION}")
    for name in ("token_ids", "prefix_ids"):
        if file.get_slice(name).get_dtype() != "I32":
            raise BadFileError(f"{name} are not int32")
    token_ids, prefix_ids = (np.asarray(file.get_tensor(name)) for name in ("token_ids", "prefix_ids"))
    if metadata.get("record") != _record_checksum(metadata, token_ids, prefix_ids):
        raise BadFileError("checksum of the ids and the header differs")
    return ChunkRecord(chunk_id, tuple(token_ids.tolist()), tuple(prefix_ids.tolist())), metadata


def _verify(metadata: dict[str, str], kv: torch.Tensor, scores: torch.Tensor | None) -> None:
    if _layout(kv) != metadata["layout"]:
        raise BadFileError(f"keys and values are {_layout(kv)}, expected {metadata['layout']}")
    for i, (layer, expected) in enumerate(zip(kv, metadata["layers"].split(), strict=True)):
        if _checksum(layer) != expected:
            raise BadFileError(f"checksum of layer {i} differs")
    if scores is not None and _checksum(scores) != metadata["scores"]:
        raise BadFileError("checksum of the scores differs")


def _layout(kv: torch.Tensor) -> str:
    return f"{kv.dtype} {'x'.join(map(str, kv.shape))}"


def _checksum(tensor: torch.Tensor) -> str:
    # Viewed as bytes, since numpy knows neither bfloat16 nor float8.
    return xxhash.xxh3_64_hexdigest(tensor.view(torch.uint8).numpy().data)


def _record_checksum(metadata: dict[str, str], token_ids: np.ndarray, prefix_ids: np.ndarray) -> str:
    digest = xxhash.xxh3_64()
    for name in CHECKED_METADATA:
        digest.update(f"{name}={metadata.get(name)}\n".encode())
    digest.update(f"{len(token_ids)}\n".encode())
    digest.update(token_ids.tobytes())
    digest.update(prefix_ids.tobytes())
    return digest.hexdigest()
