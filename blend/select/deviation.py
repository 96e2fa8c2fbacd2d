"""Deviation: selects tokens whose cached keys and values differ most from fresh ones.

Layer 0 is exact after realignment, so layer 1 is the first layer that can deviate.

Reference: CacheBlend, https://arxiv.org/abs/2405.16444
"""

import torch

from blend.select.base import LayerPart, SelectorInput


class Deviation:
    """Squared distance between fresh and cached rows at layer 1, with equal weight on keys and values."""

    name = "deviation"
    measure = "deviation of keys and values at layer 1"
    probe_layer: int | None = 1
    question_layers: LayerPart | None = None
    key_weight, value_weight = 1.0, 1.0

    def score(self, inputs: SelectorInput) -> torch.Tensor:
        """float32 [N - start]: distances of keys plus values, each divided by the mean energy of fresh
        rows."""
        keys = _partial_sums(inputs.fresh_keys, inputs.cached_keys)
        values = _partial_sums(inputs.fresh_values, inputs.cached_values)
        # One reduction for all four sums, each over this rank's heads.
        key_distance, key_energy, value_distance, value_energy = inputs.reduce(torch.stack([*keys, *values]))
        of_keys, of_values = _share(key_distance, key_energy), _share(value_distance, value_energy)
        return self.key_weight * of_keys + self.value_weight * of_values


class KeyDeviation(Deviation):
    """Keys alone."""

    name = "deviation-keys"
    measure = "deviation of keys at layer 1"
    value_weight = 0.0


class ValueDeviation(Deviation):
    """Values alone: the published rule."""

    name = "deviation-values"
    measure = "deviation of values at layer 1"
    key_weight = 0.0


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
