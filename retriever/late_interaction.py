"""Late interaction as re-ranker: each token of the query looks for the nearest token of the chunk.

A sentence encoder gives the tokens' vectors, so it needs no model beside the one that embeds.

Reference: ColBERT, https://arxiv.org/abs/2004.12832.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from retriever.config import DEFAULTS
from retriever.embed import TransformerEmbedder

if TYPE_CHECKING:
    import torch

LATE = "late:"
"""Before an encoder's name, where a re-ranker is named."""


class LateInteraction:
    """Scores chunks by the mean, over the query's tokens, of the best cosine; implements `Reranker`.

    What is too long for the encoder's window is cut off at its end.

    Args:
        encoder: gives the tokens' vectors.
    """

    def __init__(self, encoder: TransformerEmbedder) -> None:
        self._encoder = encoder
        self.name = f"{LATE}{encoder.name}"

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """One number in [-1, 1] for each text, in their order."""
        import torch

        [asked], [is_word] = self._encoder.embed_tokens([query])  # [Q, dim], [Q]
        scores = torch.empty(len(texts))
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # little of a batch is padding
        for start in range(0, len(order), DEFAULTS.max_batch_texts):
            rows = order[start : start + DEFAULTS.max_batch_texts]
            scores[rows] = _best_of(asked[is_word], *self._encoder.embed_tokens([texts[i] for i in rows]))
        return scores.tolist()


def _best_of(asked: "torch.Tensor", found: "torch.Tensor", is_word: "torch.Tensor") -> "torch.Tensor":
    """Mean over the query's tokens of the best cosine.

    Args:
        asked: float32 [Q, dim], rows of length 1.
        found: float32 [N, T, dim], rows of length 1.
        is_word: bool [N, T]: the others are padding or the tokenizer's own.

    Returns:
        float32 [N].
    """
    cosines = found @ asked.T  # [N, T, Q]
    return cosines.masked_fill(~is_word.unsqueeze(-1), -1.0).amax(1).mean(1)
