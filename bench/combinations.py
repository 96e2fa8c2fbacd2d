"""Which chunks stand in a prompt, and in which order: novel combinations, or drawn by popularity."""

import math
from collections.abc import Iterator
from random import Random

import numpy as np

Combination = tuple[int, ...]
"""Numbers of chunks, in their order in the prompt."""


def novel_combinations(num_chunks: int, size: int, rng: Random) -> Iterator[Combination]:
    """Ordered choices of different chunks, each once, in random order, until all have come.

    >>> len(list(novel_combinations(4, 2, Random(0))))
    12
    """
    seen: set[Combination] = set()
    while len(seen) < math.perm(num_chunks, size):
        one = tuple(rng.sample(range(num_chunks), size))
        if one not in seen:
            seen.add(one)
            yield one


ZIPF = 1.0
"""Exponent of Zipf's law: the chunk of popularity rank k is drawn k times less often than the first."""


def draw(num_chunks: int, size: int, rng: np.random.Generator, exponent: float = ZIPF) -> tuple[int, ...]:
    """Different chunks, drawn with weights `rank ** -exponent`.

    Args:
        num_chunks: to draw from; chunk 0 has rank 1, and is the most popular one.
        size: how many to draw, at most `num_chunks`.
        exponent: 0 gives all chunks the same weight.

    >>> sorted(draw(3, 3, np.random.default_rng(0)))
    [0, 1, 2]
    """
    weights = np.arange(1, num_chunks + 1, dtype=np.float64) ** -exponent
    drawn = rng.choice(num_chunks, size=size, replace=False, p=weights / weights.sum())
    return tuple(int(chunk) for chunk in drawn)
