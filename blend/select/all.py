"""Every token: the naive twin, a full prefill done by the blend's own machinery."""

import torch

from blend.select.base import SelectorInput


class All:
    """Recomputes everything that is not exact, whatever the ratio."""

    name = "all"
    measure = "nothing: every token is recomputed"
    probe_layer = None
    question_layers = None

    def score(self, given: SelectorInput) -> torch.Tensor:
        """float32 [N - start], +inf."""
        return torch.full((given.plan.num_tokens - given.start,), torch.inf)
