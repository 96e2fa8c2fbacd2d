"""Symbols as fewer bytes: zstd's entropy stage (Huffman), which decodes a gigabyte of symbols a second.

It codes whole bytes: a symbol is a byte here, however few bits it needs.
"""

import numpy as np
import torch
import zstandard

_LEVEL = 1
_MIN_MATCH = 7
"""Noise repeats itself by chance only: matches are not looked for where they gain nothing."""


def compress(symbols: torch.Tensor) -> bytes:
    """A zstd frame.

    Args:
        symbols: uint8 or int8, on the CPU.
    """
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL, min_match=_MIN_MATCH, source_size=symbols.numel(), write_checksum=False
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    return compressor.compress(symbols.contiguous().view(-1).view(torch.uint8).numpy().data)


def decompress(frame: memoryview, num_symbols: int) -> torch.Tensor:
    """uint8 [num_symbols]; not to be written to."""
    data = zstandard.ZstdDecompressor().decompress(frame, max_output_size=num_symbols)
    return torch.from_numpy(np.frombuffer(bytearray(data), dtype=np.uint8))
