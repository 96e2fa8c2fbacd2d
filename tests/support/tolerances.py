"""How close is close enough, by dtype, and why. The only place where tests take tolerances from."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Tolerance:
    """`torch.testing.assert_close` accepts |got - expected| <= absolute + relative * |expected|."""

    relative: float
    absolute: float


SAME_MATHS = {
    # A few dozen float32 roundings (2**-24 each) of numbers around 1, summed in another order: kernels are
    # not batch-invariant, so that the same row computed among other rows differs in its last bits.
    torch.float32: Tolerance(relative=1e-4, absolute=5e-5),
    # One rounding to 8 bits is 0.4 %; a layer has about ten in a row, and they add up over layers.
    torch.bfloat16: Tolerance(relative=5e-2, absolute=5e-2),
}
"""The same rows of keys and values, computed on two ways."""

ROTATION = {
    # An angle is position x frequency rounded to float32: up to 512 positions that is 3e-5 of a radian,
    # twice, on keys of size about 3.
    torch.float32: Tolerance(relative=1e-4, absolute=2e-4),
    # The key is rounded once more, to 8 bits.
    torch.bfloat16: Tolerance(relative=1e-2, absolute=2e-2),
}
"""A key that was realigned against one that was rotated there at once."""


def assert_close(
    got: torch.Tensor, expected: torch.Tensor, table: dict[torch.dtype, Tolerance] = SAME_MATHS
) -> None:
    """Fail unless two tensors agree as their dtype allows."""
    tolerance = table[expected.dtype]
    torch.testing.assert_close(got, expected, rtol=tolerance.relative, atol=tolerance.absolute)
