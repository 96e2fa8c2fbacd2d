"""One arm of one case over all its requests, against full prefill of the same case."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import numpy as np

from bench.cost import ModelShape
from bench.ttft.arm import FULL, Arm
from bench.ttft.case import Case
from bench.ttft.meter import Measured, flops_share, stages_ms
from blend.errors import RequestError


@dataclass(frozen=True, slots=True)
class Summary:
    """A row of the table.

    Attributes:
        num: requests.
        context_tokens, suffix_tokens: of the prompt of median time.
        cpu_ms_median: of the engine's processes, from submission to the first token.
        hit_share: mean share of the prompt's tokens in the engine's KV cache.
        speedup: full prefill's median over the arm's.
        bound: the speed-up that the counted FLOPs allow.
        stages_ms: of the request of median time; they add up to its time.
    """

    case: Case
    arm: Arm
    num: int
    context_tokens: int
    suffix_tokens: int
    ttft_ms_median: float
    ttft_ms_p90: float
    ttft_ms_mean: float
    cpu_ms_median: float
    hit_share: float
    speedup: float
    bound: float
    stages_ms: dict[str, float]

    @property
    def fraction_of_bound(self) -> float:
        """Speed-up over bound: 1 when the blend is as efficient as full prefill."""
        return self.speedup / self.bound

    def to_json(self) -> dict[str, Any]:
        """One of the JSON line's `arms`."""
        return {
            "name": self.arm.name,
            "ratio": self.arm.ratio,
            "context_tokens": self.context_tokens,
            "suffix_tokens": self.suffix_tokens,
            "tier": self.case.tier,
            "ttft_ms_median": self.ttft_ms_median,
            "ttft_ms_p90": self.ttft_ms_p90,
            "cpu_ms_median": self.cpu_ms_median,
            "speedup": self.speedup,
            "bound": self.bound,
            "fraction_of_bound": self.fraction_of_bound,
            "stages_ms": self.stages_ms,
            "n": self.num,
            "ttft_ms_mean": self.ttft_ms_mean,
            "hit_share": self.hit_share,
            "chunks": self.case.chunks,
            "chunk_tokens": self.case.tokens,
            "known": self.case.known,
            "at_once": self.case.at_once,
        }


def summarise(measured: Sequence[Measured], shape: ModelShape) -> list[Summary]:
    """A row for each case and arm, in the order in which they were first measured.

    Raises:
        RequestError: a case has no full prefill to compare with.
    """
    rows: dict[tuple[Case, Arm], list[Measured]] = {}
    for one in measured:
        rows.setdefault((one.case, one.arm), []).append(one)
    full = {case: _median_ms(own) for (case, arm), own in rows.items() if arm == FULL}
    if missing := {case for case, _ in rows} - full.keys():
        raise RequestError(f"got no full prefill of {missing.pop()}, expected one to compare with")
    return [_row(case, arm, own, full[case], shape) for (case, arm), own in rows.items()]


def growth(rows: Sequence[Summary]) -> dict[str, float]:
    """Exponent with which each arm's time grows with the context, by the arm's label, where there is one."""
    by_label: dict[str, list[Summary]] = {}
    for row in rows:
        by_label.setdefault(row.arm.label, []).append(row)
    fitted = {
        label: exponent([row.context_tokens for row in own], [row.ttft_ms_median for row in own])
        for label, own in by_label.items()
    }
    return {label: value for label, value in fitted.items() if value is not None}


def _row(case: Case, arm: Arm, own: Sequence[Measured], full_ms: float, shape: ModelShape) -> Summary:
    times = [one.reply.ttft_ms for one in own]
    typical = sorted(own, key=lambda one: one.reply.ttft_ms)[(len(own) - 1) // 2]
    return Summary(
        case=case,
        arm=arm,
        num=len(own),
        context_tokens=typical.context_tokens,
        suffix_tokens=typical.suffix_tokens,
        ttft_ms_median=median(times),
        ttft_ms_p90=float(np.quantile(times, 0.9)),
        ttft_ms_mean=fmean(times),
        cpu_ms_median=median(one.cpu_ms for one in own),
        hit_share=fmean(one.hit_share for one in own),
        speedup=full_ms / median(times),
        bound=1 / median(flops_share(shape, one) for one in own),
        stages_ms=stages_ms(typical.reply),
    )


def _median_ms(own: Sequence[Measured]) -> float:
    return median(one.reply.ttft_ms for one in own)


def exponent(lengths: Sequence[float], times: Sequence[float]) -> float | None:
    """The `e` of `time ~ length ** e` that fits best, by least squares of the logarithms.

    Args:
        lengths, times: positive, as many of one as of the other.

    Returns:
        None with fewer than two different lengths.

    >>> round(exponent([1000, 2000, 4000], [3.0, 12.0, 48.0]), 6)
    2.0
    """
    if len(set(lengths)) < 2:
        return None
    slope, _ = np.polyfit(np.log(np.asarray(lengths)), np.log(np.asarray(times)), 1)
    return float(slope)
