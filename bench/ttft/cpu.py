"""The engines' processes seen from outside: their CPU time, and which threads compute on which cores.

Times of two engines are compared only if both compute with as many threads on the same cores.
"""

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import psutil

from blend.errors import RequestError

BUSY_SHARE = 0.05
"""A thread counts as computing when it used this share of the busiest thread's time: a model's threads share
its work, and housekeeping needs less than a hundredth."""
ENOUGH_S = 0.5
"""Least CPU time of the busiest thread for its share to be measurable: the kernel counts ticks of 10 ms."""

LOOK_S = 0.25
QUIET_SHARE = 0.05
"""Share of one core's time that waiting processes may use."""
MOST_WAIT_S = 10.0
IDLE_SHARE = 0.02
"""Share of the answering engine's CPU time that a waiting one may use without a warning."""


@dataclass(frozen=True, slots=True)
class Threads:
    """The threads that computed for an engine.

    Attributes:
        num: how many.
        core_ids: cores that at least one of them may run on, ascending.
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
    """The process among these whose parent is not one of them; of several the one with most CPU time."""
    parents = {pid: psutil.Process(pid).ppid() for pid in pids}
    return max(
        (pid for pid, parent in parents.items() if parent not in parents), key=lambda pid: cpu_ms([pid])
    )


def cpu_ms(pids: Iterable[int]) -> float:
    """Milliseconds of user and system time of processes; ended ones count nothing."""
    total_s = 0.0
    for pid in pids:
        with suppress(OSError):
            total_s += time.clock_gettime(_clock_of(pid))
    return total_s * 1e3


def wait_until_quiet(pids: Iterable[int], most_s: float = MOST_WAIT_S) -> bool:
    """Wait until processes use almost no CPU time; returns whether they do.

    vLLM's engine spins for a second after its last message, and would slow the next request of another one.

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
    """Sees which threads compute between construction and `seen`.

    Args:
        pids: of one engine's processes.
    """

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = tuple(pids)
        self._before = self._now()

    def seen(self) -> Threads | None:
        """The threads that have computed, or None while too little was computed to tell."""
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


def check_binding(threads: Mapping[str, Threads | None]) -> Threads:
    """The threads that all engines have in common.

    Args:
        threads: seen computing full prefills, by engine; None where they could not be seen.

    Raises:
        RequestError: they differ, or were not seen.
    """
    first = next(iter(threads.values()))
    if first is None or any(one != first for one in threads.values()):
        raise RequestError(
            f"got engines with different threads, {describe(threads)}; expected the same, or times cannot be "
            "compared: set VLLM_CPU_OMP_THREADS_BIND to the cores of both, such as 0-1, on a quiet machine"
        )
    return first


def describe(threads: Mapping[str, Threads | None]) -> str:
    """The engines' threads and cores, in a line.

    >>> describe({"plain": Threads(2, (0, 1)), "blend": Threads(1, (0,))})
    'plain: 2 threads on cores 0,1; blend: 1 threads on cores 0'
    """
    return "; ".join(
        f"{name}: {one.num} threads on cores {','.join(map(str, one.core_ids))}"
        if one
        else f"{name}: not seen"
        for name, one in threads.items()
    )


def disturbance(idle_share: Mapping[str, float]) -> str | None:
    """A warning about engines that should have waited and did not, or None.

    Args:
        idle_share: CPU time of each engine while another one answered, over that one's.

    >>> disturbance({"plain": 0.001, "blend": 0.25})
    'blend used 25 % of the CPU time of the engine that it waited for: times are too long'
    """
    loud = {name: share for name, share in idle_share.items() if share > IDLE_SHARE}
    if not loud:
        return None
    names = ", ".join(f"{name} used {share:.0%}".replace("%", " %") for name, share in loud.items())
    return f"{names} of the CPU time of the engine that it waited for: times are too long"
