"""Selects random tokens: the baseline that every selector has to beat."""

import torch

from blend.select.base import LayerPart, SelectorInput


class Random:
    """Random scores, the same for all contexts of one length."""

    name = "random"
    measure = "chance"
    probe_layer: int | None = None
    question_layers: LayerPart | None = None

    def score(self, given: SelectorInput) -> torch.Tensor:
        """float32 [N - start], in [0, 1)."""
        generator = torch.Generator().manual_seed(given.plan.num_tokens)
        return torch.rand(given.plan.num_tokens, generator=generator)[given.start :]
