"""A stream of requests whose chunks are drawn by popularity, as retrieval draws them."""

from itertools import pairwise

import numpy as np

ZIPF = 1.0
"""Exponent of Zipf's law: the chunk of popularity rank k is asked for k times less often than the first."""


def draw(num_chunks: int, size: int, rng: np.random.Generator, exponent: float = ZIPF) -> tuple[int, ...]:
    """Different chunks as they were drawn, where the chunk of rank `n` is as popular as `n ** -exponent`.

    Args:
        num_chunks: to draw from; chunk 0 has rank 1, and is the most popular one.
        size: how many to draw, at most `num_chunks`.
        exponent: 0 makes all alike.

    >>> sorted(draw(3, 3, np.random.default_rng(0)))
    [0, 1, 2]
    """
    weights = np.arange(1, num_chunks + 1, dtype=np.float64) ** -exponent
    drawn = rng.choice(num_chunks, size=size, replace=False, p=weights / weights.sum())
    return tuple(int(chunk) for chunk in drawn)


def shares(total: int, parts: int) -> list[int]:
    """A number cut into as equal whole parts as can be.

    >>> shares(7, 3)
    [2, 2, 3]
    """
    edges = [total * part // parts for part in range(parts + 1)]
    return [b - a for a, b in pairwise(edges)]
