"""The exact least-recently-used rule, on ids alone."""

from collections import OrderedDict
from collections.abc import Iterable


def lru_hits(uses: Iterable[int], capacity: int) -> list[bool]:
    """Whether each use finds its item, in a cache of `capacity` items that takes in what it lacks."""
    held: OrderedDict[int, None] = OrderedDict()
    hits = []
    for item in uses:
        hits.append(item in held)
        held[item] = None
        held.move_to_end(item)
        if len(held) > capacity:
            held.popitem(last=False)
    return hits
