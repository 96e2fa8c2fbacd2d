"""Text that stands in a prompt for the second time, found in its token ids. Pure integers."""

from collections.abc import Sequence

REPEAT_TOKENS = 6
"""So many tokens in a row that stood before, in the same order: the last of them stands there again."""

Interval = tuple[int, int]


def repeats(token_ids: Sequence[int], num: int = REPEAT_TOKENS) -> list[Interval]:
    """Half-open intervals of positions that each end `num` tokens which stood before; ascending, none touch.

    >>> repeats([1, 2, 3, 9, 1, 2, 3, 4], num=2)
    [(5, 7)]
    """
    ids, seen = tuple(token_ids), set[tuple[int, ...]]()
    found: list[Interval] = []
    for stop in range(num, len(ids) + 1):
        run = ids[stop - num : stop]
        if run not in seen:
            seen.add(run)
        elif found and found[-1][1] == stop - 1:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((stop - 1, stop))
    return found


def within(intervals: Sequence[Interval], start: int, stop: int) -> tuple[Interval, ...]:
    """The parts of intervals that lie in `start .. stop - 1`, counted from `start`.

    >>> within([(2, 5), (7, 9)], 3, 8)
    ((0, 2), (4, 5))
    """
    cut = ((max(a, start) - start, min(b, stop) - start) for a, b in intervals)
    return tuple((a, b) for a, b in cut if a < b)
