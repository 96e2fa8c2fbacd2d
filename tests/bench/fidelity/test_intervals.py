"""Intervals cover what they say they cover; the test's p is that of its obvious twin."""

from itertools import product
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.fidelity.intervals import RESAMPLES, mean_interval, ratio_interval, sign_flip_p

VALUES = st.lists(st.floats(-100, 100), min_size=1, max_size=8)


@given(VALUES)
def test_an_interval_lies_within_the_sample(values: list[float]) -> None:
    low, high = mean_interval(values)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9


def test_intervals_of_a_mean_cover_it_as_often_as_they_say() -> None:
    generator = np.random.default_rng(1)
    samples = generator.exponential(size=(200, 60))  # skewed, as KL is
    covered = fmean(low <= 1.0 <= high for low, high in map(mean_interval, samples.tolist()))
    assert 0.89 <= covered <= 0.98


def test_intervals_of_a_ratio_cover_it_and_pairing_narrows_them() -> None:
    generator = np.random.default_rng(2)
    hard = generator.exponential(size=(200, 60))  # a question that is hard is hard for both
    ours = 0.5 * hard * generator.uniform(0.6, 1.4, size=hard.shape)
    paired = [ratio_interval(a, b) for a, b in zip(ours.tolist(), hard.tolist(), strict=True)]
    assert 0.89 <= fmean(one is not None and one.low <= 0.5 <= one.high for one in paired) <= 0.99
    apart = ratio_interval(ours[0].tolist(), hard[1].tolist())
    assert paired[0] is not None and apart is not None
    assert paired[0].high - paired[0].low < apart.high - apart.low


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=8), st.floats(0.1, 10))
def test_a_constant_ratio_has_no_width(values: list[float], factor: float) -> None:
    interval = ratio_interval([factor * value for value in values], values)
    assert interval is not None
    assert interval == pytest.approx((factor, factor))


def test_a_ratio_to_nothing_is_not_defined() -> None:
    assert ratio_interval([1.0, 2.0], [0.0, 1.0]) is None


def test_the_same_seed_gives_the_same_interval() -> None:
    values = list(map(float, range(20)))
    first, other = mean_interval(values), mean_interval(values, seed=1)
    assert mean_interval(values) == first != other


@given(st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=8))
def test_p_is_the_share_of_sign_patterns_that_reach_as_far(differences: list[float]) -> None:
    sums = [
        abs(sum(sign * value for sign, value in zip(signs, differences, strict=True)))
        for signs in product((1, -1), repeat=len(differences))
    ]
    assert sign_flip_p(differences) == fmean(one >= abs(sum(differences)) for one in sums)


def test_drawn_patterns_give_nearly_what_all_of_them_would() -> None:
    differences = np.random.default_rng(3).normal(0.4, 1.0, size=14)
    signs = np.array(list(product((1, -1), repeat=14)))
    exact = float((np.abs(signs @ differences) >= abs(differences.sum()) * (1 - 1e-12)).mean())
    assert sign_flip_p(differences.tolist()) == pytest.approx(exact, abs=0.02)


def test_p_of_many_equal_differences_is_small_and_never_zero() -> None:
    assert sign_flip_p([1.0] * 100) == 1 / (RESAMPLES + 1)
    assert sign_flip_p([0.0] * 100) == 1.0
