"""Bootstrap intervals and a paired permutation test, by scipy. The same seed gives the same numbers."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import bootstrap, permutation_test

LEVEL = 0.95
RESAMPLES = 10_000
BATCH = 1000
"""Resamples computed at once; bounds memory."""


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
    return _interval((values,), np.mean, seed)


def ratio_interval(
    numerators: Sequence[float], denominators: Sequence[float], seed: int = 0
) -> Interval | None:
    """Percentile bootstrap interval of the ratio of two means over the same questions.

    Args:
        numerators, denominators: paired, one of each per question; finite.

    Returns:
        None when the ratio is not defined: too many resamples have nothing but zeros below.

    >>> ratio_interval([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    Interval(low=0.5, high=0.5)
    """

    def ratio(above: Any, below: Any, axis: int) -> Any:
        return above.mean(axis=axis) / below.mean(axis=axis)

    with np.errstate(divide="ignore", invalid="ignore"):
        found = _interval((numerators, denominators), ratio, seed)
    return found if np.isfinite(found).all() else None


def sign_flip_p(differences: Sequence[float], seed: int = 0) -> float:
    """Two-sided p of a paired permutation test: that the differences' signs are fair coins.

    All sign patterns are tried when they are no more than `RESAMPLES`; otherwise so many are drawn.

    Args:
        differences: one per question.

    >>> sign_flip_p([1.0, 1.0, 1.0])
    0.25
    """
    sample = np.asarray(differences, dtype=np.float64)
    if len(sample) == 1:  # scipy wants two observations; either sign of one is as far from zero
        return 1.0
    found = permutation_test(
        (sample,),
        lambda flipped, axis: np.abs(flipped.sum(axis=axis)),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=BATCH,
        alternative="greater",
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def _interval(samples: Sequence[Sequence[float]], statistic: Callable[..., Any], seed: int) -> Interval:
    arrays = [np.asarray(sample, dtype=np.float64) for sample in samples]
    if len(arrays[0]) == 1:  # scipy wants two observations; one has no spread
        only = float(statistic(*arrays, axis=0))
        return Interval(only, only)
    found = bootstrap(
        arrays,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=BATCH,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(found.low), float(found.high))
