"""Question attention: selects the tokens that the question attends to.

References: ProphetKV (query-driven recomputation), https://arxiv.org/abs/2602.02579; for the late layers
InfoFlow KV, https://arxiv.org/abs/2603.05353.
"""

import torch

from blend.select.base import LayerPart, SelectorInput


class Question:
    """Attention from the suffix's tokens, mean over these tokens and over all layers."""

    name = "question"
    measure = "the question's attention"
    probe_layer: int | None = None
    question_layers: LayerPart | None = (0.0, 1.0)

    def score(self, inputs: SelectorInput) -> torch.Tensor:
        """float32 [N - start]: a share of the question's attention; 0 without a suffix."""
        assert inputs.attention is not None, "a question selector needs the question probe"
        return inputs.attention.sum(0) / max(1, len(inputs.attention))


class LateQuestion(Question):
    """Only the upper half of the layers, where attention goes to the answer rather than to nearby tokens."""

    name = "question-late"
    measure = "the question's attention in the upper layers"
    question_layers = (0.5, 1.0)


class LastToken(Question):
    """Attention from the prompt's last token, over all layers."""

    name = "last-token"
    measure = "the last token's attention"

    def score(self, inputs: SelectorInput) -> torch.Tensor:
        """float32 [N - start]: a share of the last token's attention; 0 without a suffix."""
        assert inputs.attention is not None, "a question selector needs the question probe"
        return inputs.attention[-1:].sum(0)
