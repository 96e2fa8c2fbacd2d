"""High-KV-deviation tokens: recompute where cached keys and values are furthest from fresh ones.

Reference: CacheBlend, https://arxiv.org/abs/2405.16444
"""

import torch

from blend.select.base import SelectorInput


class Deviation:
    """Squared distance of fresh and cached rows at layer 1, keys and values weighing the same.

    Layer 0 is exact after realignment, so layer 1 is the first that can deviate.
    """

    name = "deviation"
    probe_layer = 1
    looks_at_suffix = False

    def score(self, given: SelectorInput) -> torch.Tensor:
        """float32 [N - start]: keys' share plus values' share, each of its fresh rows' mean energy."""
        keys = _partial_sums(given.fresh_keys, given.cached_keys)
        values = _partial_sums(given.fresh_values, given.cached_values)
        # One reduction for all four sums: each rank has summed over its own heads.
        key_distance, key_energy, value_distance, value_energy = given.reduce(torch.stack([*keys, *values]))
        return _share(key_distance, key_energy) + _share(value_distance, value_energy)


def _partial_sums(
    fresh: torch.Tensor | None, cached: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared distance and squared norm of each row, float32 [N - start], over this rank's heads."""
    assert fresh is not None, "the deviation selector needs its probe layer"
    assert cached is not None
    fresh, cached = fresh.float().flatten(1), cached.float().flatten(1)  # [N - start, H * D]
    return (fresh - cached).square().sum(1), fresh.square().sum(1)


def _share(distance: torch.Tensor, energy: torch.Tensor) -> torch.Tensor:
    return distance / energy.mean().clamp_min(torch.finfo(torch.float32).tiny)
