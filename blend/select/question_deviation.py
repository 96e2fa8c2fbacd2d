"""Question attention times deviation: selects tokens that the question attends to and that deviate.

References: CacheBlend, https://arxiv.org/abs/2405.16444; ProphetKV, https://arxiv.org/abs/2602.02579.
"""

import torch

from blend.select.base import SelectorInput
from blend.select.deviation import ValueDeviation
from blend.select.question import Question


class QuestionDeviation:
    """Attention from the suffix over all layers, times the square root of the values' distance at layer 1."""

    name = "question-deviation"
    measure = "the question's attention times the root of deviation"
    probe_layer: int | None = ValueDeviation.probe_layer
    question_layers = Question.question_layers

    def score(self, inputs: SelectorInput) -> torch.Tensor:
        """float32 [N - start]."""
        # The deviation's score is a squared distance: its fourth root is the root of the distance.
        deviation = ValueDeviation().score(inputs)
        return Question().score(inputs) * deviation.to("cpu").pow(0.25)
