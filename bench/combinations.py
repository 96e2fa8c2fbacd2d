"""Which chunks stand in a prompt, and in which order: never the same twice."""

import math
from collections.abc import Iterator
from random import Random

Combination = tuple[int, ...]
"""Numbers of chunks, in their order in the prompt."""


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
