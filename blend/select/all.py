"""Selects every token: the naive twin, a full prefill through the blend's own code path."""

import torch

from blend.select.base import SelectorInput


class All:
    """Recomputes every token that is not exact, at any ratio."""

    name = "all"
    measure = "nothing: every token is recomputed"
    probe_layer = None
    question_layers = None

    def score(self, inputs: SelectorInput) -> torch.Tensor:
        """float32 [N - start], +inf."""
        return torch.full((inputs.plan.num_tokens - inputs.start,), torch.inf)
