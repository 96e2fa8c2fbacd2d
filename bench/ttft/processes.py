"""Processes seen from outside: their CPU time, and which threads computed, on which cores."""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import psutil

BUSY_SHARE = 0.05
"""A thread computed when it used that share of the busiest one's time: the threads of a model share its
work, and those of the engine's own housekeeping need less than a hundredth."""
ENOUGH_S = 0.5
"""CPU time of the busiest thread from which on its share can be told: the kernel counts ticks of 10 ms."""

LOOK_S = 0.25
QUIET_SHARE = 0.05
"""Of one core's time: what waiting processes may use."""
MOST_WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Threads:
    """The threads that did an engine's work.

    Attributes:
        num: how many.
        core_ids: cores that one of them at least may run on, ascending.
    """

    num: int
    core_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Thread:
    cpu_s: float
    core_ids: frozenset[int]


def children() -> set[int]:
    """Ids of all processes below this one."""
    return {process.pid for process in psutil.Process().children(recursive=True)}


def parent_of(pids: Iterable[int]) -> int:
    """The process, of these, whose parent is none of them; of several the one that has used most CPU time."""
    parents = {pid: psutil.Process(pid).ppid() for pid in pids}
    return max(
        (pid for pid, parent in parents.items() if parent not in parents), key=lambda pid: cpu_ms([pid])
    )


def cpu_ms(pids: Iterable[int]) -> float:
    """Milliseconds of user and system time that processes have used; of those that have ended, none."""
    total_s = 0.0
    for pid in pids:
        with suppress(OSError):
            total_s += time.clock_gettime(_clock_of(pid))
    return total_s * 1e3


def wait_until_quiet(pids: Iterable[int], most_s: float = MOST_WAIT_S) -> bool:
    """Wait until processes use next to no CPU time; whether they do now.

    An engine of vLLM spins for a second after its last message, and would take that from whoever comes next.

    Args:
        most_s: to wait at most.
    """
    pids, deadline = tuple(pids), time.monotonic() + most_s
    while pids:
        before = cpu_ms(pids)
        time.sleep(LOOK_S)
        if cpu_ms(pids) - before < QUIET_SHARE * LOOK_S * 1e3:
            return True
        if time.monotonic() > deadline:
            return False
    return True


def _clock_of(pid: int) -> int:
    """Linux's clock of another process's CPU time, as clock_getcpuclockid(3) gives it: nanoseconds, where the
    files in /proc count ticks of ten milliseconds."""
    return (~pid << 3) | 2


class ThreadWatch:
    """Sees which threads compute between its making and `seen`.

    Args:
        pids: of one engine's processes.
    """

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = tuple(pids)
        self._before = self._now()

    def seen(self) -> Threads | None:
        """The threads that computed since, or None while too little was computed to tell."""
        now = self._now()
        none = _Thread(0.0, frozenset())
        used = {tid: one.cpu_s - self._before.get(tid, none).cpu_s for tid, one in now.items()}
        most = max(used.values(), default=0.0)
        if most < ENOUGH_S:
            return None
        busy = [now[tid] for tid, cpu_s in used.items() if cpu_s >= BUSY_SHARE * most]
        return Threads(len(busy), tuple(sorted(frozenset().union(*(one.core_ids for one in busy)))))

    def _now(self) -> dict[int, _Thread]:
        found = {}
        for pid in self._pids:
            with suppress(psutil.NoSuchProcess):
                for thread in psutil.Process(pid).threads():
                    with suppress(ProcessLookupError):  # it has ended meanwhile
                        cores = frozenset(os.sched_getaffinity(thread.id))  # takes a thread's id as well
                        found[thread.id] = _Thread(thread.user_time + thread.system_time, cores)
        return found
