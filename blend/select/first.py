"""Selects the first tokens of each chunk: a rule that needs no computation.

Reference: EPIC, https://arxiv.org/abs/2410.15332
"""

import torch

from blend.select.base import SelectorInput


class First:
    """Earlier tokens of a chunk first: a budget of `S` tokens takes the first `k` of each chunk."""

    name = "first"
    measure = "minus the place in its chunk"
    probe_layer = None
    question_layers = None

    def score(self, inputs: SelectorInput) -> torch.Tensor:
        """float32 [N - start]: minus the token's index in its chunk; 0 in gaps, which are always selected."""
        scores = torch.zeros(inputs.plan.num_tokens)
        for span in inputs.plan.spans:
            stop = min(span.stop, inputs.plan.num_tokens)
            scores[span.start : stop] = -torch.arange(stop - span.start, dtype=torch.float32)
        return scores[inputs.start :]
