"""A run: every case, every arm, repetition after repetition. The main path."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from pathlib import Path

from bench.ttft.arm import FULL
from bench.ttft.backend import Backend
from bench.ttft.case import HELD, Case
from bench.ttft.cpu import Threads, ThreadWatch, check_binding, parent_of
from bench.ttft.meter import Measured, Meter
from bench.ttft.profile import profiled
from bench.ttft.prompts import Ids, PromptMaker, pool_size
from bench.ttft.script import Script

WARM_UPS = 1
"""Repetitions of a case that are not counted."""

MOST_PREFILLS = 200
"""Most full prefills to see an engine's threads by; one or a few are enough for a model of any size."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure.

    Attributes:
        sweep: a name in `bench.ttft.sweeps.SWEEPS`.
        repeat: how often each arm of a case is measured.
        stream: prompts of the prefix-caching arms, in all repetitions together.
    """

    sweep: str
    cases: tuple[Case, ...]
    repeat: int
    stream: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured.

    Attributes:
        threads: what every engine computed with.
        idle_share: by engine, its CPU time while another one answered, over that one's.
    """

    measured: tuple[Measured, ...]
    threads: Threads
    idle_share: Mapping[str, float]


def run(
    backend: Backend,
    maker: PromptMaker,
    script: Script,
    plan: Plan,
    tell: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Measure.

    Args:
        maker: the script's own.
        tell: called with a line at each step forward.

    Raises:
        RequestError: the engines do not compute with the same threads, or one did not blend.
        StoreError: chunks cannot be stored.
    """
    tell("starting the engines")
    backend.open([case.tier for case in plan.cases])
    pools = _store(backend, maker, plan, tell)
    threads = _threads(backend, script, plan.cases[0], pools[plan.cases[0]])
    tell(f"{threads.num} threads on cores {','.join(map(str, threads.core_ids))} in every engine")
    meter = Meter(backend)
    measured: list[Measured] = []
    for number, case in enumerate(plan.cases, start=1):
        _warm_up(backend, script, plan, case, pools[case])
        for repetition, stream in enumerate(shares(plan.stream, plan.repeat), start=1):
            steps = script.of(plan.sweep)(case, pools[case], stream)
            tell(f"case {number}/{len(plan.cases)}, repetition {repetition}/{plan.repeat}")
            measured += chain.from_iterable(meter.measure(case, step) for step in steps)
    return Outcome(tuple(measured), threads, meter.idle_share())


def profile(backend: Backend, maker: PromptMaker, script: Script, case: Case, path: Path) -> None:
    """Record one blend of a case, of the middle ratio, with everything in place as when it is measured.

    Args:
        case: one that was measured.
        path: what is written, see `bench.ttft.profile`.

    Raises:
        RequestError: no profile can be taken.
    """
    pool = maker.pool(pool_size(case.chunks, 2), case.tokens)
    meter = Meter(backend)
    for step in script.touch(case, pool) if case.tier in HELD else []:
        meter.measure(case, step)
    step = script.blend(case, pool)
    engine = backend.engine_of(step.arm, case.tier)
    with profiled(parent_of(backend.processes[engine]), path):
        meter.measure(case, step)


def _store(
    backend: Backend, maker: PromptMaker, plan: Plan, tell: Callable[[str], None]
) -> dict[Case, list[Ids]]:
    """Chunks of every case, computed and stored; cases with chunks of one size share them."""
    pools = {}
    for case in plan.cases:
        num_prompts = (plan.repeat + WARM_UPS) * case.at_once * len(plan.cases)
        pools[case] = maker.pool(pool_size(case.chunks, num_prompts), case.tokens)
    known = [pools[case] for case in plan.cases if case.known_chunks]
    chunks = list(dict.fromkeys(chain.from_iterable(known)))
    tell(f"computing {len(chunks)} chunks, {sum(map(len, chunks))} tokens")
    backend.store(maker.prefix_ids, chunks)
    return pools


def _threads(backend: Backend, script: Script, case: Case, pool: Sequence[Ids]) -> Threads:
    """The threads that the engines compute full prefills with; none on other devices than CPUs.

    Raises:
        RequestError: they differ.
    """
    if backend.device != "cpu":
        return Threads(0, ())
    seen: dict[str, Threads | None] = dict.fromkeys(backend.processes)
    for engine, pids in backend.processes.items():
        prefill = partial(_prefill, backend, engine, script, case, pool)
        prefill()  # warm-up
        watch = ThreadWatch(pids)
        for _ in range(MOST_PREFILLS):
            prefill()
            seen[engine] = watch.seen()
            if seen[engine] is not None:
                break
    return check_binding(seen)


def _prefill(backend: Backend, engine: str, script: Script, case: Case, pool: Sequence[Ids]) -> None:
    backend.ask(engine, FULL, script.touch(case, pool)[0].requests)


def _warm_up(backend: Backend, script: Script, plan: Plan, case: Case, pool: Sequence[Ids]) -> None:
    """Each arm once; all chunks are read once where their tier caches on use."""
    meter = Meter(backend)
    touched = script.touch(case, pool) if case.tier in HELD and case.known_chunks else []
    for step in [*touched, *script.of(plan.sweep)(case, pool, WARM_UPS)]:
        meter.measure(case, step)


def shares(total: int, parts: int) -> list[int]:
    """A number cut into as equal whole parts as can be.

    >>> shares(7, 3)
    [2, 2, 3]
    """
    edges = [total * part // parts for part in range(parts + 1)]
    return [b - a for a, b in pairwise(edges)]
