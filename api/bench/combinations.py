"""Which chunks stand in a prompt, and in which order: drawn by popularity, or never the same twice."""

import math
from collections.abc import Iterator
from random import Random

import numpy as np

Combination = tuple[int, ...]
"""Numbers of chunks, in their order in the prompt."""


def zipf_draw(num_chunks: int, size: int, exponent: float, rng: np.random.Generator) -> Combination:
    """Different chunks, where the chunk of rank `n` is as popular as `n ** -exponent`.

    Args:
        num_chunks: chunk 0 is the most popular one.
        exponent: 0 makes all alike.

    >>> len(set(zipf_draw(8, 8, 1.0, np.random.default_rng(0))))
    8
    """
    weights = np.arange(1, num_chunks + 1, dtype=np.float64) ** -exponent
    drawn = rng.choice(num_chunks, size=size, replace=False, p=weights / weights.sum())
    return tuple(int(chunk) for chunk in drawn)


def novel_combinations(num_chunks: int, size: int, rng: Random) -> Iterator[Combination]:
    """Ordered choices of different chunks, each once, in random order, until there is no other.

    >>> len(list(novel_combinations(4, 2, Random(0))))
    12
    """
    seen: set[Combination] = set()
    while len(seen) < math.perm(num_chunks, size):
        one = tuple(rng.sample(range(num_chunks), size))
        if one not in seen:
            seen.add(one)
            yield one
