"""Asks an arm's requests and measures them: time, CPU time, FLOPs, and where the time went."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

from bench.cost import ModelShape, blend_flops, full_flops
from bench.ttft.arm import BLEND, Arm
from bench.ttft.backend import Backend, Reply, Request
from bench.ttft.case import DISK_COLD, Case
from bench.ttft.cpu import cpu_ms, wait_until_quiet
from bench.ttft.script import Step
from blend.errors import RequestError
from blend.select import selector

STAGES = ("match", "load", "realign", "select", "recompute", "write", "suffix")
"""Stages of a blend's statistics (`<stage>_ms`), in the order in which they happen."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One request.

    Attributes:
        cpu_ms: of the engine's processes, divided equally among requests that arrive together.
    """

    case: Case
    arm: Arm
    context_tokens: int
    suffix_tokens: int
    cpu_ms: float
    reply: Reply

    @property
    def num_tokens(self) -> int:
        """Of the whole prompt."""
        return self.context_tokens + self.suffix_tokens

    @property
    def hit_share(self) -> float:
        """Share of the prompt's tokens in the engine's KV cache before the last step."""
        return self.reply.hit_tokens / self.num_tokens


def flops_share(shape: ModelShape, one: Measured) -> float:
    """FLOPs up to the first token, over those of a full prefill of the same prompt."""
    stats, hit = one.reply.stats, one.reply.hit_tokens
    # A blend that was found as it is, or never made, has not looked at anything.
    looked = stats.fallback is None and stats.times.select_ms > 0
    rule = selector(stats.selector) if looked else None
    flops = blend_flops(shape, rule, stats.selected, hit, one.num_tokens - hit)
    return flops / full_flops(shape, one.num_tokens)


def stages_ms(reply: Reply) -> dict[str, float]:
    """Milliseconds by stage, which add up to the time to first token.

    `suffix`, or `prefill` where nothing was blended, is the prefill as the engine reports it; `scheduling` is
    the remainder: messages between processes, and engine steps. Without the engine's report, `rest` is both.
    """
    named = {name: getattr(reply.stats.times, f"{name}_ms", None) for name in STAGES}
    stages = {name: float(ms) for name, ms in named.items() if ms is not None}
    if reply.stats.fallback is not None:
        stages = {"match": stages["match"]} if stages["match"] else {}
    if "suffix" not in stages and reply.prefill_ms is not None:
        stages["suffix" if reply.stats.fallback is None else "prefill"] = reply.prefill_ms
    rest = "scheduling" if {"suffix", "prefill"} & stages.keys() else "rest"
    return {**stages, rest: reply.ttft_ms - sum(stages.values())}


class Meter:
    """Sends requests, and counts the CPU time of the engine that answers and of those that should wait."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._busy_ms = dict.fromkeys(backend.processes, 0.0)
        self._idle_ms = dict.fromkeys(backend.processes, 0.0)

    def measure(self, case: Case, step: Step) -> list[Measured]:
        """Ask a step's requests, and wait for all of them.

        Raises:
            RequestError: a prompt with known chunks was not blended.
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
    """A prompt with known chunks must be blended; one without is rightly prefilled."""
    if arm.engine == BLEND and case.known_chunks and reply.stats.fallback is not None:
        raise RequestError(f"the engine did not blend the prompt of {arm.label}: {reply.stats.fallback}")
