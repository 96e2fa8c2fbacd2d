"""How fast this machine is just now: bounds on time are multiples of it, never seconds of one machine."""

import time
from collections.abc import Callable

LOOK_UPS = 100_000


def unit_s() -> float:
    """Seconds for a hundred thousand look-ups in a dictionary: some 5 ms on a server's core."""
    table = {number * 7919: number for number in range(LOOK_UPS)}
    keys = list(table)

    def look_up() -> int:
        return sum(table[key] for key in keys)

    return soonest_s(look_up)


def soonest_s(work: Callable[[], object], runs: int = 5) -> float:
    """The shortest of some runs: it says what the work takes, the others what else the machine does."""
    taken_s = []
    for _ in range(runs):
        begun_s = time.perf_counter()
        work()
        taken_s.append(time.perf_counter() - begun_s)
    return min(taken_s)
