"""A stream of requests whose chunks are drawn by popularity, as retrieval draws them."""

from itertools import pairwise
from random import Random

ZIPF = 1.0
"""Exponent of Zipf's law: the chunk of popularity rank k is asked for k times less often than the first."""


def draw(random: Random, size: int, num: int, exponent: float = ZIPF) -> list[int]:
    """Different popularity ranks from 0, in the order in which they were drawn.

    Args:
        size: chunks to draw from.
        num: how many to draw, at most `size`.

    >>> sorted(draw(Random(0), 3, 3))
    [0, 1, 2]
    """
    ranks = list(range(size))
    drawn = []
    for _ in range(num):
        weights = [(rank + 1) ** -exponent for rank in ranks]
        (rank,) = random.choices(ranks, weights)
        ranks.remove(rank)
        drawn.append(rank)
    return drawn


def shares(total: int, parts: int) -> list[int]:
    """A number cut into as equal whole parts as can be.

    >>> shares(7, 3)
    [2, 2, 3]
    """
    edges = [total * part // parts for part in range(parts + 1)]
    return [b - a for a, b in pairwise(edges)]
