"""Reciprocal-rank fusion of several rankings; their scores, which are not comparable, do not count.

Reference: Cormack, Clarke and Buettcher, https://doi.org/10.1145/1571941.1572114.
"""

from collections.abc import Sequence

from retriever.index import Ranking

DAMPING = 60
"""The constant k of the paper: the larger, the less the first ranks count more than later ones."""


def fuse(rankings: Sequence[Ranking], damping: int = DAMPING) -> Ranking:
    """Reciprocal-rank fusion; rows of equal score come in ascending order.

    >>> [row for row, score in fuse([[(7, 0.9), (3, 0.2)], [(3, 11.0), (5, 8.0)]])]
    [3, 7, 5]
    """
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, (row, _) in enumerate(ranking, 1):
            scores[row] = scores.get(row, 0.0) + 1 / (damping + rank)
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))
