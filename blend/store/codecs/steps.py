"""Rounding numbers to multiples of a step that follows their spread. Pure functions.

What is far off is a rare symbol, which an entropy stage makes long; what is near is frequent and short. So
there is no need for groups with ranges of their own, and hardly anything is stored besides the symbols.

Reference: entropy-coded uniform quantisation, Gish and Pierce 1968, https://doi.org/10.1109/TIT.1968.1054193
"""

from dataclasses import dataclass

import torch

MAX_SYMBOL = 127
STEP_BY_CHANNEL = (0,)
STEP_BY_TOKEN = (1,)
"""Dimensions of [T, C] whose numbers share a step."""
_LEAST = 1e-6
"""Lower bound of a channel's mean square, in the mean over channels: a constant channel has none."""
_HALF_MAX = 60_000.0
"""Layers with larger values take float32 steps and centres; all others take float16."""


@dataclass(frozen=True, slots=True)
class Stepped:
    """Numbers [T, C] as symbols.

    Attributes:
        symbols: int8 [T, C]; one stands for `centre + symbol * step`.
        centre: [1, C], or [1, 1].
        step: [1, 1], [1, C] or [T, 1]; of one dtype with `centre`, float16 or float32.
    """

    symbols: torch.Tensor
    centre: torch.Tensor
    step: torch.Tensor


def scale_dtype(rows: torch.Tensor) -> torch.dtype:
    """The dtype that steps and centres of these rows need.

    >>> scale_dtype(torch.tensor([[1e5]])), scale_dtype(torch.tensor([[1.0]]))
    (torch.float32, torch.float16)
    """
    return torch.float16 if not rows.numel() or float(rows.abs().max()) < _HALF_MAX else torch.float32


def round_up(numbers: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The nearest number of a dtype that is not below.

    >>> float(round_up(torch.tensor(1.0001), torch.float16))
    1.0009765625
    """
    rounded = numbers.to(dtype)
    above = torch.nextafter(rounded, torch.tensor(float("inf"), dtype=dtype))
    return torch.where(rounded.float() < numbers, above, rounded)


def to_steps(
    rows: torch.Tensor, width: float, sharing: tuple[int, ...], *, is_centred: bool = True
) -> Stepped:
    """Symbols of numbers, around the mean of each channel, or around zero.

    Args:
        rows: float32 [T, C], finite, T at least 1.
        width: of a step, in root mean squares of what shares it.
        sharing: one of the dimensions above.
        is_centred: around the mean of each channel; what has none of note saves the room for it.

    Returns:
        What differs from `rows` by at most half of its own step. A step is wider than wanted where 127 of
        them would not reach the farthest number.

    >>> to_steps(torch.tensor([[-2.0], [2.0]]), 1.0, STEP_BY_CHANNEL).symbols.tolist()
    [[-1], [1]]
    """
    dtype = scale_dtype(rows)
    # In float64: sums must not depend on how many threads share them.
    means = rows.double().mean(dim=0, keepdim=True)
    centre = (means if is_centred else torch.zeros(1, 1)).to(dtype)
    off = rows - centre.float()
    spread = off.double().square()
    for dim in sharing:
        spread = spread.mean(dim=dim, keepdim=True)
    needed = off.abs().amax(dim=sharing, keepdim=True) / MAX_SYMBOL
    step = round_up(torch.maximum((width * spread.sqrt()).float(), needed), dtype)
    symbols = off.div_(step.float().clamp_min(1e-45)).round_().clamp_(-MAX_SYMBOL, MAX_SYMBOL)
    return Stepped(symbols.to(torch.int8), centre, step)


def to_even_steps(rows: torch.Tensor, width: float) -> Stepped:
    """Symbols of numbers around the mean of each channel, by one step that suits most channels.

    A few channels that spread far beyond all others, as keys with biases have them, do not widen it: it
    follows the geometric mean of the channels' spreads. Only where 127 steps would not reach its farthest
    number, a channel has a wider one of its own.

    Args:
        rows: float32 [T, C], finite, T at least 1.
        width: of a step, in that mean.

    Returns:
        What differs from `rows` by at most half of a step.

    >>> to_even_steps(torch.tensor([[-1.0, -6.0], [1.0, 6.0]]), 0.5).symbols.tolist()
    [[-1, -5], [1, 5]]
    """
    dtype = scale_dtype(rows)
    centre = rows.double().mean(dim=0, keepdim=True).to(dtype)
    off = rows - centre.float()
    spread = off.double().square().mean(dim=0, keepdim=True)  # [1, C]
    spread = spread.clamp_min(float(_LEAST * spread.mean()))
    typical = spread.log().mean().exp().sqrt()
    needed = off.abs().amax(dim=0, keepdim=True) / MAX_SYMBOL  # [1, C]
    step = round_up(torch.maximum((width * typical).float(), needed), dtype)
    symbols = off.div_(step.float().clamp_min(1e-45)).round_().clamp_(-MAX_SYMBOL, MAX_SYMBOL)
    return Stepped(symbols.to(torch.int8), centre, step)


def from_steps(stepped: Stepped, into: torch.Tensor) -> None:
    """The numbers again, into [T, C] of any floating-point dtype, computed in float32 and cast once."""
    given = stepped.centre.float(), stepped.symbols.float(), stepped.step.float()
    if into.dtype == torch.float32:
        torch.addcmul(*given, out=into)
    else:
        into.copy_(torch.addcmul(*given))
