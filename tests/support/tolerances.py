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


ROWS_RMS = {torch.bfloat16: 0.06}
"""Error of an engine's rows in bfloat16 against the reference in float32, over the rows' own size, each a
root mean square over a layer. The reference itself, computed in bfloat16, is off by 0.018 to 0.040."""


@dataclass(frozen=True, slots=True)
class FirstToken:
    """Distances from the float32 reference: between log-probabilities of the first token, root mean square
    over the likeliest twenty.

    Attributes:
        full_prefill: of the engine's own full prefill: the yardstick.
        blend: of a blend, from the reference's blend of the same rows. It rounds once more than full prefill:
            the rows that are stored are realigned.
    """

    full_prefill: float
    blend: float


FIRST_TOKEN = {
    torch.float32: FirstToken(full_prefill=1e-3, blend=1e-3),  # measured: 0.00002 and 0.00003
    torch.bfloat16: FirstToken(full_prefill=0.25, blend=0.5),
}


def assert_close(
    got: torch.Tensor, expected: torch.Tensor, table: dict[torch.dtype, Tolerance] = SAME_MATHS
) -> None:
    """Fail unless two tensors agree as the dtype of the first allows; the second may be more exact."""
    tolerance = table[got.dtype]
    torch.testing.assert_close(
        got.float(), expected.float(), rtol=tolerance.relative, atol=tolerance.absolute
    )


def rows_agree(
    got: torch.Tensor, expected: torch.Tensor, table: dict[torch.dtype, Tolerance] = SAME_MATHS
) -> None:
    """Fail unless an engine's rows [L, T, H, D] are the float32 reference's, as far as their dtype allows."""
    if got.dtype not in ROWS_RMS:
        assert_close(got, expected, table)
        return
    errors = (got.float() - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)  # [L]
    assert float(errors.max()) <= ROWS_RMS[got.dtype], errors
