"""Rotary embedding, one pair of numbers at a time."""

import cmath

import torch


def rope(keys: torch.Tensor, inv_freq: torch.Tensor, first_position: int, interleaved: bool) -> torch.Tensor:
    """Keys [T, H, D] rotated for positions `first_position ..`; float64 inside, dtype kept."""
    rotated = keys.double().clone()
    half = len(inv_freq)
    for t in range(keys.shape[0]):
        for head in range(keys.shape[1]):
            for i, frequency in enumerate(inv_freq.tolist()):
                a, b = (2 * i, 2 * i + 1) if interleaved else (i, i + half)
                pair = complex(keys[t, head, a].item(), keys[t, head, b].item())
                pair *= cmath.exp(1j * (first_position + t) * frequency)
                rotated[t, head, a], rotated[t, head, b] = pair.real, pair.imag
    return rotated.to(keys.dtype)


def table(inv_freq: torch.Tensor, num_positions: int) -> torch.Tensor:
    """Float32 [P, R]: cosines, then sines."""
    angles = torch.arange(num_positions).float()[:, None] * inv_freq
    return torch.cat([angles.cos(), angles.sin()], dim=1)
