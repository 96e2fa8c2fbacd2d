"""The meter: asks a step's requests, and counts whose CPU time that took."""

from collections.abc import Mapping
from itertools import chain

from bench.ttft.arm import BLEND, Arm
from bench.ttft.backend import Backend, Reply, Request
from bench.ttft.case import DISK_COLD, Case
from bench.ttft.measured import Measured
from bench.ttft.processes import cpu_ms, wait_until_quiet
from bench.ttft.script import Step
from blend.errors import RequestError


class Meter:
    """Asks, and counts the CPU time of the engine that answers and of those that should wait."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._busy_ms = dict.fromkeys(backend.processes, 0.0)
        self._idle_ms = dict.fromkeys(backend.processes, 0.0)

    def measure(self, case: Case, step: Step) -> list[Measured]:
        """Ask a step's requests, and wait for all of them.

        Raises:
            RequestError: what should have been blended was not.
        """
        engine = self._backend.engine_of(step.arm, case.tier)
        # Of all engines: each request then finds the one that answers it in the same state.
        wait_until_quiet(chain.from_iterable(self._backend.processes.values()))
        if case.tier == DISK_COLD and step.arm.engine == BLEND:
            self._backend.drop_file_cache()
        before = self._now()
        replies = self._backend.ask(engine, step.arm, step.requests)
        used = {name: ms - before[name] for name, ms in self._now().items()}
        self._count(engine, used)
        for reply in replies:
            _check_blended(case, step.arm, reply)
        each_ms = used[engine] / len(replies)
        return [
            Measured(case, step.arm, *_lengths(request), each_ms, reply)
            for request, reply in zip(step.requests, replies, strict=True)
        ]

    def idle_share(self) -> dict[str, float]:
        """By engine, its CPU time while another one answered, over that one's."""
        return {name: ms / (self._busy_ms[name] or 1.0) for name, ms in self._idle_ms.items()}

    def _count(self, engine: str, used_ms: Mapping[str, float]) -> None:
        for name in used_ms.keys() - {engine}:
            self._idle_ms[name] += used_ms[name]
            self._busy_ms[name] += used_ms[engine]

    def _now(self) -> dict[str, float]:
        return {name: cpu_ms(pids) for name, pids in self._backend.processes.items()}


def _lengths(request: Request) -> tuple[int, int]:
    return len(request.prompt.context_ids), len(request.prompt.suffix_ids)


def _check_blended(case: Case, arm: Arm, reply: Reply) -> None:
    """Whether what could be blended was: where nothing is known, the engine prefills, and rightly so."""
    if arm.engine == BLEND and case.known_chunks and reply.stats.fallback is not None:
        raise RequestError(f"the engine did not blend the prompt of {arm.label}: {reply.stats.fallback}")
