"""Quantisers in plain Python, number by number: slow and obvious twins of `blend.store.codecs`."""

import math
import struct


def half(number: float) -> float:
    """The nearest float16."""
    return struct.unpack("<e", struct.pack("<e", number))[0]


def half_not_below(number: float) -> float:
    """The smallest float16 that is not below."""
    near = half(number)
    if near >= number:
        return near
    (bits,) = struct.unpack("<H", struct.pack("<e", near))
    if near == 0:
        return struct.unpack("<e", struct.pack("<H", 1))[0]
    return struct.unpack("<e", struct.pack("<H", bits + (1 if near > 0 else -1)))[0]


def by_step(rows: list[list[float]], width: float, sharing: tuple[int, ...]) -> list[list[float]]:
    """What is left of [T][C] numbers: whole steps from each column's mean."""
    tokens, channels = range(len(rows)), range(len(rows[0]))
    centre = [half(sum(rows[t][c] for t in tokens) / len(tokens)) for c in channels]
    off = [[rows[t][c] - centre[c] for c in channels] for t in tokens]
    left = [[0.0 for _ in channels] for _ in tokens]
    for t in tokens:
        for c in channels:
            same = [
                off[u][d]
                for u in (tokens if 0 in sharing else (t,))
                for d in (channels if 1 in sharing else (c,))
            ]
            spread = math.sqrt(sum(one * one for one in same) / len(same))
            step = half_not_below(max(width * spread, max(map(abs, same)) / 127))
            left[t][c] = centre[c] + step * (round(off[t][c] / step) if step else 0)
    return left
