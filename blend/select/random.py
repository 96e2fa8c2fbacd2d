"""Random tokens: what every selector has to beat."""

import torch

from blend.select.base import LayerPart, SelectorInput


class Random:
    """The same random scores whenever a context of the same length is scored."""

    name = "random"
    measure = "chance"
    probe_layer: int | None = None
    question_layers: LayerPart | None = None

    def score(self, given: SelectorInput) -> torch.Tensor:
        """float32 [N - start], in [0, 1)."""
        generator = torch.Generator().manual_seed(given.plan.num_tokens)
        return torch.rand(given.plan.num_tokens, generator=generator)[given.start :]
