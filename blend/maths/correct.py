"""Correction of the rows that were not selected, from what recomputing the others showed."""

from typing import Protocol

import torch

from blend.plan.plan import BlendPlan


class Corrector(Protocol):
    """A rule that adjusts cached rows at each layer, before that layer's attention. Stateless.

    Attributes:
        name: what users write.
    """

    name: str

    def correct(
        self,
        plan: BlendPlan,
        cached_keys: torch.Tensor,
        cached_values: torch.Tensor,
        selected: torch.Tensor,
        fresh_keys: torch.Tensor,
        fresh_values: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values [N, H, D] to use in place of the cached ones; never writes to its arguments.

        Args:
            cached_keys, cached_values: [N, H, D], realigned.
            selected: int64 [S], ascending context positions that are recomputed.
            fresh_keys, fresh_values: [S, H, D], what recomputing them gave at this layer.
        """


class Identity:
    """Leaves the rows as they are."""

    name = "identity"

    def correct(
        self,
        plan: BlendPlan,
        cached_keys: torch.Tensor,
        cached_values: torch.Tensor,
        selected: torch.Tensor,
        fresh_keys: torch.Tensor,
        fresh_values: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return cached_keys, cached_values
