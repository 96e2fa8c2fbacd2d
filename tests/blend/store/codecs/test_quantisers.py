"""Rounding to steps, beside its twin in plain Python."""

from math import prod
from statistics import fmean

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blend.store.codecs.steps import (
    STEP_BY_CHANNEL,
    STEP_BY_TOKEN,
    from_steps,
    to_even_steps,
    to_steps,
)
from tests.reference.quantising import by_step, half_not_below

TINY = 1e-6
"""Of the largest number: what sums in float32 and in float64 differ by."""


def rows_of(seed: int, tokens: int, channels: int, scale: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(tokens, channels, generator=generator) + torch.arange(float(channels))


sizes = st.tuples(
    st.integers(0, 99), st.integers(1, 23), st.integers(1, 5), st.sampled_from([1e-3, 1.0, 50.0])
)


@settings(max_examples=60, deadline=None)
@given(
    size=sizes,
    width=st.sampled_from([0.1, 0.3, 1.0]),
    sharing=st.sampled_from([STEP_BY_CHANNEL, STEP_BY_TOKEN]),
)
def test_steps_are_those_of_the_twin(
    size: tuple[int, int, int, float], width: float, sharing: tuple[int, ...]
) -> None:
    rows = rows_of(*size)
    got = to_steps(rows, width, sharing)
    twin = torch.tensor(by_step(rows.tolist(), width, sharing))
    back = torch.empty_like(rows)
    from_steps(got, back)
    step, off = got.step.float().expand_as(rows), (back - twin).abs()
    # Where a step itself lies at the edge of two float16 numbers, it may be either; what lies near the middle
    # of two multiples of it may then go to either: the larger the multiple, the less near.
    in_steps = step.clamp_min(1e-30)
    near_half = (((rows - twin) / in_steps).abs() - 0.5).abs() < 1e-2 + (rows / in_steps).abs() * 2**-10
    next_step = 127 * step * 2**-10
    assert bool(((off <= TINY * rows.abs().max() + next_step) | near_half).all())


@settings(max_examples=60, deadline=None)
@given(size=sizes, width=st.sampled_from([0.1, 0.3, 1.0]), farthest=st.sampled_from([0.0, 1.0, 1e4]))
def test_even_steps_are_as_wide_as_most_channels_need(
    size: tuple[int, int, int, float], width: float, farthest: float
) -> None:
    rows = rows_of(*size)
    rows[:, -1] *= farthest  # one channel that is constant, or like the others, or far beyond them
    got = to_even_steps(rows, width)
    back = torch.empty_like(rows)
    from_steps(got, back)
    step = got.step.float().expand_as(rows)
    off = (rows - got.centre.float()).double()
    squares = [fmean(float(number) ** 2 for number in column) for column in off.T]
    least = fmean(squares) * 1e-6
    typical = prod(max(square, least) for square in squares) ** (0.5 / len(squares))
    for channel, own in enumerate(step[0].tolist()):
        wanted = max(width * typical, float(off[:, channel].abs().max()) / 127)
        assert wanted * (1 - 1e-3) <= own <= wanted * (1 + 2e-3) + 6e-8
    assert bool(((back - rows).abs() <= step * 0.501 + TINY * rows.abs().max()).all())


@pytest.mark.parametrize("number", [0.0, 1e-9, 0.1, 1.0, -0.1, -1.0001, 1234.5])
def test_the_twin_rounds_up(number: float) -> None:
    up = half_not_below(number)
    assert up >= number and up - number <= max(6e-8, abs(number) * 2**-10)
