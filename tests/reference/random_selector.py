"""Random tokens: what every selector has to beat."""

import torch

from blend.select.base import SelectorInput


class Random:
    """The same random scores whenever a plan of the same length is scored."""

    name = "random"
    probe_layer = None
    looks_at_suffix = False

    def score(self, given: SelectorInput) -> torch.Tensor:
        generator = torch.Generator().manual_seed(given.plan.num_tokens)
        return torch.rand(given.plan.num_tokens, generator=generator)[given.start :]
