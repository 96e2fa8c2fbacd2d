"""Rounding numbers to a few evenly spaced ones, in groups that share a lowest one and a step. Pure functions.

Reference: KIVI, https://arxiv.org/abs/2402.02750: keys by channel, values by token.
"""

from dataclasses import dataclass

import torch

_HALF_MAX = 60_000.0
"""Above it the steps and the lowest numbers of a layer are float32, below it float16."""


@dataclass(frozen=True, slots=True)
class Grouped:
    """Numbers [N, C] as codes; each column is cut into groups of `group` rows, the last one may be shorter.

    Attributes:
        codes: uint8 [N, C].
        low, step: [G, C], of one dtype, float16 or float32; a code stands for `low + code * step`.
        group: rows of a group.
    """

    codes: torch.Tensor
    low: torch.Tensor
    step: torch.Tensor
    group: int


def scale_dtype(rows: torch.Tensor) -> torch.dtype:
    """What suffices for steps and lowest numbers of these rows.

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


def quantise(rows: torch.Tensor, bits: int, group: int) -> Grouped:
    """Codes of `bits` bits.

    Args:
        rows: float32 [N, C], finite, N at least 1.
        bits: 1 to 8.
        group: rows that share a lowest number and a step.

    Returns:
        What differs from `rows` by at most half of its own step.

    >>> dequantise(quantise(torch.tensor([[0.0], [1.0], [3.0]]), 2, 8)).tolist()
    [[0.0], [1.0], [3.0]]
    """
    levels = (1 << bits) - 1
    padded = _in_groups(rows, group)  # [G, group, C]
    dtype = scale_dtype(rows)
    # Rounded outwards, so that the highest code still reaches the highest number.
    low = -round_up(-padded.amin(dim=1), dtype)
    step = round_up((padded.amax(dim=1) - low.float()) / levels, dtype)
    codes = torch.sub(padded, low.float()[:, None]).div_(step.float().clamp_min(1e-45)[:, None])
    codes = codes.round_().clamp_(0, levels).to(torch.uint8)
    return Grouped(codes.flatten(0, 1)[: rows.shape[0]], low, step, group)


def dequantise(grouped: Grouped) -> torch.Tensor:
    """float32 [N, C]."""
    codes = _in_groups(grouped.codes, grouped.group)
    wide = torch.addcmul(grouped.low.float()[:, None], codes.float(), grouped.step.float()[:, None])
    return wide.flatten(0, 1)[: grouped.codes.shape[0]]


def _in_groups(rows: torch.Tensor, group: int) -> torch.Tensor:
    """[G, group, C]; the last group is filled up with copies of the last row."""
    missing = -rows.shape[0] % group
    if missing:
        rows = torch.cat((rows, rows[-1:].expand(missing, -1)))
    return rows.view(-1, group, rows.shape[1])
