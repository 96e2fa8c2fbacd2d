"""Selects random tokens: the baseline that every selector has to beat."""

import torch

from blend.select.base import LayerPart, SelectorInput


class Random:
    """Random scores, the same for all contexts of one length."""

    name = "random"
    measure = "chance"
    probe_layer: int | None = None
    question_layers: LayerPart | None = None

    def score(self, inputs: SelectorInput) -> torch.Tensor:
        """float32 [N - start], in [0, 1)."""
        generator = torch.Generator().manual_seed(inputs.plan.num_tokens)
        return torch.rand(inputs.plan.num_tokens, generator=generator)[inputs.start :]
