"""Which chunks of a ranking are taken: up to a number of hits and tokens, with their neighbours."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

Passage = tuple[int, ...]
"""Rows of chunks that stand next to each other in one document, in its order."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Where a chunk stands: the rows of its document in reading order, and its own index among them."""

    document: str
    rows: Sequence[int]
    index: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on the chunks that are taken.

    Attributes:
        hits: maximum of ranked rows; neighbours do not count.
        tokens: maximum of all rows together; None for no limit.
        neighbours: on each side of a hit.
    """

    hits: int
    tokens: int | None = None
    neighbours: int = 0


def take(
    ranking: Iterable[int],
    limits: Limits,
    reading: Callable[[int], Reading],
    num_tokens: Callable[[int], int],
) -> list[Passage]:
    """Passages, the one with the best row first; no row twice.

    A row that does not fit is skipped. Neighbours follow their hit, nearest first, up to the first on a side
    that does not fit. Without neighbours every row is a passage of its own.

    Args:
        ranking: best first; read lazily.
        reading: where a row stands.
        num_tokens: of a row.
    """
    left = float("inf") if limits.tokens is None else limits.tokens
    places: dict[tuple[str, int], int] = {}  # (document, index) -> row, in the order of taking
    taken: set[int] = set()
    hits = 0
    for row in ranking:
        if row not in taken and num_tokens(row) > left:
            continue
        hits += 1
        for place, near in _with_neighbours(row, reading(row), limits.neighbours, taken, num_tokens, left):
            if near not in taken:
                left -= num_tokens(near)
                taken.add(near)
                places[place] = near
        if hits == limits.hits:
            break
    return _merged(places) if limits.neighbours else [(row,) for row in places.values()]


def _with_neighbours(
    row: int,
    where: Reading,
    neighbours: int,
    taken: set[int],
    num_tokens: Callable[[int], int],
    left: float,
) -> Iterator[tuple[tuple[str, int], int]]:
    """The row and its neighbours, as far as they fit, each with its place."""
    if row not in taken:
        left -= num_tokens(row)
        yield (where.document, where.index), row
    open_sides = {-1, 1}
    for distance in range(1, neighbours + 1):
        for side in sorted(open_sides):
            index = where.index + side * distance
            near = where.rows[index] if 0 <= index < len(where.rows) else None
            needed = 0 if near is None or near in taken or near == row else num_tokens(near)
            if near is None or needed > left:
                open_sides.discard(side)
                continue
            left -= needed
            yield (where.document, index), near


def _merged(places: dict[tuple[str, int], int]) -> list[Passage]:
    """Merge adjacent rows of a document into one passage, at the rank of its best row."""
    rank = {place: number for number, place in enumerate(places)}
    runs: list[list[tuple[str, int]]] = []
    for place in sorted(places):
        document, index = place
        if runs and runs[-1][-1] == (document, index - 1):
            runs[-1].append(place)
        else:
            runs.append([place])
    runs.sort(key=lambda run: min(rank[place] for place in run))
    return [tuple(places[place] for place in run) for run in runs]


def best_last(passages: Sequence[Passage]) -> list[int]:
    """Rows with the best passage at the end, each passage in its document's order.

    >>> best_last([(4, 5), (1,)])
    [1, 4, 5]
    """
    return list(chain.from_iterable(reversed(passages)))
