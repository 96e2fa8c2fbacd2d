"""The runs of a benchmark of load: blending on and off on the same server, alternating."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from uuid import uuid4

from bench.combinations import Combination, novel_combinations
from bench.load.client import Call, LoadClient, Outcome
from bench.load.decoding import Observation, watch_decoding
from bench.load.figures import LoadFigures, figures
from bench.load.open_loop import Phase, open_loop
from bench.load.workload import Arrival, Corpus, Mix, workload
from bench.progress import tell
from blend.errors import EngineNotReady

ARMS = ("blend", "full")
ALONE = "alone"
QUESTION = "What do these pages say about memory?"
STORY = "Tell a very long story about a lighthouse and the people who live in it."
WARM_TOKENS = 4


@dataclass(frozen=True, slots=True)
class Schedule:
    """What is measured.

    Attributes:
        rates: requests a second, one after another.
        seconds: of arrivals at each rate, in each arm.
        max_tokens: of each answer.
        seed: of what is drawn.
    """

    mix: Mix
    rates: tuple[float, ...]
    seconds: float
    max_tokens: int
    seed: int


async def run_load(url: str, corpus: Corpus, schedule: Schedule, timeout_s: float) -> list[LoadFigures]:
    """Both arms at each rate, with the same requests; neither finds the other's blocks in the prefix cache.

    Raises:
        EngineNotReady: the server does not answer.
    """
    found: list[LoadFigures] = []
    run = uuid4().hex  # a server that was running before has no blocks of these salts
    async with LoadClient(url, timeout_s) as client:
        await _warm(client, corpus, schedule.mix.passages)
        for number, rate in enumerate(schedule.rates):
            seed = (schedule.seed, number)
            arrivals = workload(len(corpus.texts), schedule.mix, rate, schedule.seconds, seed)
            for arm in ARMS if number % 2 == 0 else ARMS[::-1]:
                salt = f"{run}-{number}-{arm}"
                phase = await _phase(client, corpus, arrivals, arm, salt, schedule.max_tokens)
                found.append(figures(arm, rate, phase))
                one = found[-1]
                tell(f"{one.rate:g} requests/s, {one.arm}: {one.finished} of {one.sent} answered")
    return found


async def run_one_blend(
    url: str,
    corpus: Corpus,
    passages: int,
    repetitions: int,
    decode_tokens: int,
    seed: int,
    timeout_s: float,
) -> dict[str, list[Observation]]:
    """Watch one request decode: alone, beside a blend, and beside a full prefill of the same prompt.

    Args:
        decode_tokens: of the answer that is watched.

    Raises:
        EngineNotReady: the server does not answer.
        RequestError: `decode_tokens` are too few.
    """
    found: dict[str, list[Observation]] = {kind: [] for kind in (ALONE, *ARMS)}
    combinations = novel_combinations(len(corpus.texts), passages, Random(seed))
    async with LoadClient(url, timeout_s) as client:
        await _warm(client, corpus, passages)
        for number, chunks in zip(range(repetitions), combinations, strict=False):
            for kind in (ALONE, *ARMS):
                long = Call(corpus.messages(STORY, ()), False, uuid4().hex, decode_tokens)
                other = None if kind == ALONE else _call(corpus, chunks, kind, uuid4().hex, 1)
                found[kind].append(await watch_decoding(client, long, other))
            tell(f"repetition {number + 1}/{repetitions}")
    return found


async def _phase(
    client: LoadClient, corpus: Corpus, arrivals: Sequence[Arrival], arm: str, salt: str, max_tokens: int
) -> Phase:
    async def send(arrival: Arrival, due_s: float) -> Outcome:
        messages = corpus.messages(arrival.question, arrival.chunks)
        return await client.answer(Call(messages, arm == "blend", salt, max_tokens), due_s)

    return await open_loop(arrivals, send)


def _call(corpus: Corpus, chunks: Combination, arm: str, salt: str, max_tokens: int) -> Call:
    return Call(corpus.messages(QUESTION, chunks), arm == "blend", salt, max_tokens)


async def _warm(client: LoadClient, corpus: Corpus, passages: int) -> None:
    """One request of each arm, so that what an engine does only once is not measured.

    Raises:
        EngineNotReady: one failed.
    """
    for arm in ARMS:
        call = _call(corpus, tuple(range(passages)), arm, uuid4().hex, WARM_TOKENS)
        outcome = await client.answer(call, time.perf_counter())
        if outcome.error is not None:
            raise EngineNotReady(f"the first request failed: {outcome.error}")
