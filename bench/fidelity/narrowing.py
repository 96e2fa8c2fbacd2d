"""Gradual narrowing: fewer rows are recomputed at each layer. For the laboratory's Hugging Face path alone.

The published rule starts with more rows than the ratio asks for and drops, layer by layer, those that deviate
least; what was dropped keeps its cached rows from there on.

Reference: CacheBlend, section 4.3, https://arxiv.org/abs/2405.16444
"""

import torch

WIDTH = 1.5
"""Rows at the first layer over those that the ratio asks for; `2 - WIDTH` at the last. Not the paper's."""


class Narrowing:
    """The rows of one blend that are still computed, layer by layer; a `Keep` of `blend.hf.blender`.

    Attributes:
        selector: what picks the rows to start with.

    Args:
        num_layers: of the model.
    """

    name = "narrowing"
    selector = "deviation-values"

    def __init__(self, num_layers: int) -> None:
        self._num_layers = num_layers
        self._next: torch.Tensor | None = None

    @staticmethod
    def start(ratio: float) -> float:
        """Recompute ratio of the first layer, so that the mean over layers is the ratio asked for.

        >>> Narrowing.start(0.25), Narrowing.start(0.75)
        (0.375, 1.0)
        """
        return min(1.0, WIDTH * ratio)

    def __call__(self, layer: int, cached_values: torch.Tensor, fresh_values: torch.Tensor) -> torch.Tensor:
        """Which rows this layer computes: bool [S]. Layers come in order.

        Args:
            cached_values, fresh_values: [S, H, D], of the rows that the blend started with.
        """
        now = self._next
        if now is None:
            now = torch.ones(len(fresh_values), dtype=torch.bool, device=fresh_values.device)
        deviation = (fresh_values.float() - cached_values.float()).flatten(1).square().sum(1)
        left = deviation.masked_fill(~now, -torch.inf).topk(self._num_rows(layer + 1, len(now))).indices
        self._next = torch.zeros_like(now).index_fill_(0, left, True)
        return now

    def _num_rows(self, layer: int, num_start: int) -> int:
        """From all rows at the first layer down to a share of `(2 - WIDTH) / WIDTH` at the last."""
        depth = min(1.0, layer / max(1, self._num_layers - 1))
        return round(num_start * (1 - depth * (2 * WIDTH - 2) / WIDTH))
