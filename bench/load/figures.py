"""The figures of runs of load."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from statistics import median

import numpy as np

from bench.load.client import Outcome
from bench.load.decoding import Observation
from bench.load.open_loop import Phase


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Milliseconds: the 50th, 90th and 99th percentile of `num` values, and the largest."""

    num: int
    p50: float
    p90: float
    p99: float
    max: float


def percentiles(ms: Sequence[float]) -> Percentiles | None:
    """Percentiles, interpolated between neighbours; None without values.

    >>> percentiles([float(n) for n in range(101)])
    Percentiles(num=101, p50=50.0, p90=90.0, p99=99.0, max=100.0)
    """
    if not ms:
        return None
    p50, p90, p99 = (float(value) for value in np.percentile(ms, (50, 90, 99)))
    return Percentiles(len(ms), p50, p90, p99, max(ms))


def gaps_ms(times_s: Sequence[float]) -> list[float]:
    """Inter-token latencies: from each time to the next one.

    >>> gaps_ms([1.0, 1.5, 1.75])
    [500.0, 250.0]
    """
    return [(late - early) * 1e3 for early, late in pairwise(times_s)]


@dataclass(frozen=True, slots=True)
class LoadFigures:
    """One arm at one rate. Of failed requests, the tokens that came count.

    Attributes:
        arm: "blend" or "full".
        rate: requests a second, as scheduled.
        failed: with an error, or not within the time limit.
        ttft_ms: of requests with chunks, from when they were due.
        short_ttft_ms: of requests without chunks.
        itl_ms: inter-token latencies of all requests together.
        tokens_per_s: of complete answers, from the start of the schedule to the end of the last answer.
        blended_share: share of the finished requests that were blended.
        errors: different error messages.
    """

    arm: str
    rate: float
    sent: int
    finished: int
    failed: int
    ttft_ms: Percentiles | None
    short_ttft_ms: Percentiles | None
    itl_ms: Percentiles | None
    tokens_per_s: float
    blended_share: float
    errors: tuple[str, ...]


def figures(arm: str, rate: float, phase: Phase) -> LoadFigures:
    """The figures of a run."""
    done = [one for one in phase.outcomes if one.error is None]
    pairs = list(zip(phase.arrivals, phase.outcomes, strict=True))
    gaps = chain.from_iterable(gaps_ms(one.token_times_s) for one in phase.outcomes)
    tokens = sum(one.output_tokens for one in done)
    return LoadFigures(
        arm=arm,
        rate=rate,
        sent=len(phase.outcomes),
        finished=len(done),
        failed=len(phase.outcomes) - len(done),
        ttft_ms=_ttft([outcome for arrival, outcome in pairs if arrival.chunks]),
        short_ttft_ms=_ttft([outcome for arrival, outcome in pairs if not arrival.chunks]),
        itl_ms=percentiles(list(gaps)),
        tokens_per_s=tokens / phase.seconds if tokens else 0.0,
        blended_share=sum(one.was_blended for one in done) / len(done) if done else 0.0,
        errors=tuple(sorted({one.error for one in phase.outcomes if one.error is not None})),
    )


def _ttft(outcomes: Sequence[Outcome]) -> Percentiles | None:
    return percentiles([one.ttft_ms for one in outcomes if one.ttft_ms is not None])


@dataclass(frozen=True, slots=True)
class DecodingFigures:
    """A request that decodes beside one kind of other request.

    Attributes:
        kind: "alone", "blend" or "full".
        p99_over_alone: its p99 inter-token latency over that of "alone"; None where there were no tokens.
        ttft_ms: median of the other requests'.
        blended: how many of the others were.
    """

    kind: str
    itl_ms: Percentiles | None
    p99_over_alone: float | None
    ttft_ms: float | None
    blended: int


def decoding_figures(found: Mapping[str, Sequence[Observation]]) -> list[DecodingFigures]:
    """Figures of each kind; the others are compared with the first."""
    itls = {
        kind: percentiles(list(chain.from_iterable(one.itls_ms for one in own)))
        for kind, own in found.items()
    }
    alone = next(iter(itls.values()))
    rows = []
    for kind, own in found.items():
        itl = itls[kind]
        ttfts = [one.ttft_ms for one in own if one.ttft_ms is not None]
        over = itl.p99 / alone.p99 if itl and alone else None
        blended = sum(one.was_blended for one in own)
        rows.append(DecodingFigures(kind, itl, over, median(ttfts) if ttfts else None, blended))
    return rows
