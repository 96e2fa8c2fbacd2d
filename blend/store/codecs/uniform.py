"""Even steps and an entropy stage: one step for all keys of a layer, one step for the values of each token.

Keys are not scaled by channel. A query sees the sum of all channels' errors, so every channel may have the
same error, and that error is what most channels need, however far a few channels spread. Values are scaled by
token: tokens that draw much attention tend to have small values, and need a smaller error than the others.
docs/log/2026-11.md has the measurements against the opposite choices and against integers in groups.

The entropy stage is zstd's (Huffman), which decodes a gigabyte of symbols a second. It codes whole bytes, so
each symbol is a byte.
"""

import numpy as np
import torch
import zstandard

from blend.store.codecs.payload import join, scales_from_bytes, scales_to_bytes, split
from blend.store.codecs.steps import STEP_BY_TOKEN, Stepped, from_steps, to_even_steps, to_steps

_WIDTH = 0.2
"""Width of a step in spreads of the numbers that share it. Keys and values take the same, by measurement."""
_LEVEL = 1
_MIN_MATCH = 7
"""Rounded values are noise: looking for shorter matches costs time and gains nothing."""


class Uniform:
    """Implements `blend.store.codecs.base.Codec`.

    The error of a value is at most half a step plus the rounding of its dtype.
    """

    name = "uniform"
    version = 2
    is_lossless = False

    def encode(self, kv: torch.Tensor, index: int, num_layers: int) -> bytes:
        """The payload of one layer: symbols, centres and steps of the keys, then of the values."""
        keys, values = kv.float().flatten(2)  # [T, H * D] each
        both = (
            to_even_steps(keys, _WIDTH),
            to_steps(values, _WIDTH, STEP_BY_TOKEN, is_centred=False),
        )
        return join(
            piece
            for one in both
            for piece in (_compress(one.symbols), scales_to_bytes(one.centre), scales_to_bytes(one.step))
        )

    def decode(self, payload: memoryview, into: torch.Tensor) -> None:
        """Inverse of `encode`, except for the rounding."""
        pieces = split(payload)
        for rows, place, shape in ((into[0], 0, (1, -1)), (into[1], 3, (-1, 1))):
            flat = rows.view(rows.shape[0], -1)  # [T, H * D]
            symbols = _decompress(pieces[place], rows.numel()).view(flat.shape)
            centre, step = (scales_from_bytes(piece) for piece in pieces[place + 1 : place + 3])
            from_steps(Stepped(symbols, centre.view(1, -1), step.view(shape)), flat)


def _compress(symbols: torch.Tensor) -> bytes:
    """A zstd frame of int8 symbols."""
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL, min_match=_MIN_MATCH, source_size=symbols.numel(), write_checksum=False
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    return compressor.compress(symbols.contiguous().view(-1).view(torch.uint8).numpy().data)


def _decompress(frame: memoryview, num_symbols: int) -> torch.Tensor:
    """int8 [num_symbols], read-only."""
    data = zstandard.ZstdDecompressor().decompress(frame, max_output_size=num_symbols)
    return torch.from_numpy(np.frombuffer(bytearray(data), dtype=np.int8))


CODEC = Uniform()
