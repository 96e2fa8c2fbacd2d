"""A chunk packed by another codec: in memory, or in its place in a store."""

import os
from contextlib import suppress

from blend.chunks.chunk import ChunkKV
from blend.store.codecs import fitting, tag_of
from blend.store.codecs.base import RAW, Codec
from blend.store.file_format.byte_source import HeldBytes
from blend.store.file_format.chunk_file import ChunkFile, encode, map_chunk
from blend.store.tiers.disk import DiskStore


def to_file(chunk: ChunkKV, codec: Codec) -> bytearray:
    """The bytes of a chunk's file."""
    return bytearray(b"".join(encode(chunk, codec)))


def recoded(chunk: ChunkKV, codec: Codec) -> ChunkKV:
    """The same chunk with what a codec drops dropped, on the device that it came from."""
    device = chunk.keys.device
    read = ChunkFile(HeldBytes(to_file(chunk, codec)), chunk.record.chunk_id).chunk()
    return ChunkKV(chunk.record, read.keys.to(device), read.values.to(device), read.is_lossless)


class LossyError(Exception):
    """A chunk has lost numbers already, and another codec would neither restore them nor say so."""


def recode(store: DiskStore, chunk_id: str, codec: Codec, *, from_lossy: bool = False) -> bool:
    """Pack a chunk by another codec; readers find the old file or the new one, whole.

    Its last use and its pin stay. The same chunk and codec give the same bytes, whenever it is done.

    Args:
        codec: what is wanted; a chunk that is not for it is kept raw, see `blend.store.codecs.fitting`.
        from_lossy: also pack what a lossy codec has left of a chunk.

    Returns:
        Whether the file changed; False too when it has gone meanwhile.

    Raises:
        LossyError: a lossy codec has packed it, and `from_lossy` is not set.
        BadFileError: it is damaged; it stays as it is.
        StoreError: it cannot be written.
    """
    path = store.path(chunk_id)
    try:
        used_ns = path.stat().st_mtime_ns
        file = map_chunk(path, chunk_id)
    except FileNotFoundError:
        return False
    if tag_of(file.codec) == tag_of(codec):
        return False
    if not file.is_lossless and not from_lossy:
        raise LossyError(chunk_id)
    chunk = file.chunk()
    if file.codec is RAW and fitting(codec, chunk.record, chunk.keys, chunk.values) is RAW:
        return False
    pieces = encode(chunk, codec)
    store.put_file(chunk_id, pieces)
    with suppress(OSError):  # evicted meanwhile
        os.utime(path, ns=(used_ns, used_ns))
    return True
