"""Tensors of different kinds as one run of bytes, and back."""

import struct
from collections.abc import Iterable

import torch

_SCALES = (torch.float16, torch.float32)


def join(pieces: Iterable[bytes]) -> bytes:
    """Pieces, each led by its length.

    >>> [bytes(piece) for piece in split(memoryview(join([b"one", b""])))]
    [b'one', b'']
    """
    return b"".join(part for piece in pieces for part in (struct.pack("<I", len(piece)), piece))


def split(payload: memoryview) -> list[memoryview]:
    """Inverse of `join`."""
    pieces, place = [], 0
    while place < len(payload):
        (length,) = struct.unpack_from("<I", payload, place)
        pieces.append(payload[place + 4 : place + 4 + length])
        place += 4 + length
    return pieces


def scales_to_bytes(scales: torch.Tensor) -> bytes:
    """A tensor of float16 or float32, its dtype first."""
    return (
        bytes([_SCALES.index(scales.dtype)])
        + scales.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    )


def scales_from_bytes(piece: memoryview) -> torch.Tensor:
    """Inverse of `scales_to_bytes`, flat, the caller's own."""
    return torch.frombuffer(bytearray(piece[1:]), dtype=_SCALES[piece[0]])
