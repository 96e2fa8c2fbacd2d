"""Bootstrap intervals and a paired permutation test. Pure functions; the same seed gives the same numbers.

Reference: Efron, https://doi.org/10.1214/aos/1176344552 (bootstrap); Phipson and Smyth,
https://arxiv.org/abs/1603.05766 (a drawn permutation test's p is never zero)
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
RESAMPLES = 10_000

Floats = NDArray[np.float64]

_ROUNDING = 1e-12
"""Sums of the same numbers in another order, relative to each other."""


class Interval(NamedTuple):
    """Both ends belong to it."""

    low: float
    high: float


def mean_interval(values: Sequence[float], seed: int = 0) -> Interval:
    """Percentile bootstrap interval of a mean.

    Args:
        values: one per question, one at least; finite.

    >>> mean_interval([2.0, 2.0, 2.0])
    Interval(low=2.0, high=2.0)
    """
    return _percentiles(_counts(len(values), seed) @ np.asarray(values, dtype=np.float64) / len(values))


def ratio_interval(
    numerators: Sequence[float], denominators: Sequence[float], seed: int = 0
) -> Interval | None:
    """Percentile bootstrap interval of the ratio of two means over the same questions.

    Args:
        numerators, denominators: paired, one of each per question; finite.

    Returns:
        None when the ratio is not defined: some resample's denominators are all zero.

    >>> ratio_interval([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    Interval(low=0.5, high=0.5)
    """
    counts = _counts(len(numerators), seed)
    above = counts @ np.asarray(numerators, dtype=np.float64)
    below = counts @ np.asarray(denominators, dtype=np.float64)
    return _percentiles(above / below) if below.all() else None


def sign_flip_p(differences: Sequence[float], seed: int = 0) -> float:
    """Two-sided p of a paired permutation test: that the differences' signs are fair coins.

    All sign patterns are gone through when they are no more than would be drawn.

    Args:
        differences: one per question.

    >>> sign_flip_p([1.0, 1.0, 1.0])
    0.25
    """
    sample = np.asarray(differences, dtype=np.float64)
    exact = 2 ** len(sample) <= RESAMPLES
    signs = _all_signs(len(sample)) if exact else _drawn_signs(len(sample), seed)
    bar = abs(sample.sum()) * (1 - _ROUNDING)
    as_far = int((np.abs(signs @ sample) >= bar).sum())
    return as_far / len(signs) if exact else (as_far + 1) / (len(signs) + 1)


@lru_cache(maxsize=1)
def _counts(num: int, seed: int) -> Floats:
    """How often each question is drawn, [RESAMPLES, num]: the same draws for every method."""
    assert num > 0
    return np.random.default_rng(seed).multinomial(num, np.full(num, 1 / num), RESAMPLES).astype(np.float64)


def _percentiles(means: Floats) -> Interval:
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def _all_signs(num: int) -> Floats:
    minus = np.arange(2**num)[:, None] >> np.arange(num) & 1  # [2^num, num]
    return np.where(minus, -1.0, 1.0)


def _drawn_signs(num: int, seed: int) -> Floats:
    minus = np.random.default_rng(seed).integers(2, size=(RESAMPLES, num))
    return np.where(minus, -1.0, 1.0)
