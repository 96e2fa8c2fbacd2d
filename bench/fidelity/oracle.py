"""The oracle knows full prefill's values: the upper bound of what selecting can reach. Hugging Face only."""

import torch

from blend.select.base import LayerPart, SelectorInput
from blend.select.question import LateQuestion


class Oracle:
    """Late question attention times the true deviation of a token's values, over all layers.

    Args:
        deviation: float32 [N], for each token the distance of its cached values from full prefill's,
            relative to the layer's mean, mean over layers.
    """

    name = "oracle"
    measure = "the question's attention times true deviation"
    probe_layer: int | None = None
    question_layers: LayerPart | None = LateQuestion.question_layers

    def __init__(self, deviation: torch.Tensor) -> None:
        self._deviation = deviation

    def score(self, inputs: SelectorInput) -> torch.Tensor:
        """float32 [N - start]."""
        return LateQuestion().score(inputs) * self._deviation[inputs.start :]


def true_deviation(cached: torch.Tensor, full: torch.Tensor) -> torch.Tensor:
    """The `deviation` of `Oracle`: float32 [N].

    Args:
        cached, full: values [L, N, H, D].
    """
    distance = (cached.float() - full.float()).flatten(2).norm(dim=2)[1:]  # [L - 1, N]: layer 0 is exact
    share: torch.Tensor = distance / distance.mean(1, keepdim=True).clamp_min(1e-30)
    return share.mean(0).cpu()
