"""Whether the engines that are compared were given the same cores and threads: else there is no speed-up."""

from collections.abc import Mapping

from bench.ttft.processes import Threads
from blend.errors import RequestError

IDLE_SHARE = 0.02
"""An engine that waits may use that share of the CPU time of the one that answers, and is not mentioned."""


def check_binding(threads: Mapping[str, Threads | None]) -> Threads:
    """What all engines have.

    Args:
        threads: those that were seen computing full prefills, by engine; None where none could be told.

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
    """What is wrong with engines that should have waited, or None.

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
