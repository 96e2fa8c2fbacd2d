"""Late interaction as re-ranker: each token of the query is matched with the nearest token of the chunk.

A sentence encoder computes the tokens' vectors, so no model beside the embedding model is needed.

Reference: ColBERT, https://arxiv.org/abs/2004.12832.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from retriever.config import DEFAULTS
from retriever.embed import TransformerEmbedder

if TYPE_CHECKING:
    import torch

LATE = "late:"
"""Prefix of a re-ranker's name that selects late interaction."""


class LateInteraction:
    """Scores chunks by the mean, over the query's tokens, of the best cosine; implements `Reranker`.

    A text longer than the encoder's window is truncated.

    Args:
        encoder: computes the tokens' vectors.
    """

    def __init__(self, encoder: TransformerEmbedder) -> None:
        self._encoder = encoder
        self.name = f"{LATE}{encoder.name}"

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """One score in [-1, 1] for each text, in their order."""
        import torch

        [asked], [is_word] = self._encoder.embed_tokens([query])  # [Q, dim], [Q]
        scores = torch.empty(len(texts))
        order = sorted(
            range(len(texts)), key=lambda i: len(texts[i])
        )  # similar lengths together need little padding
        for start in range(0, len(order), DEFAULTS.max_batch_texts):
            rows = order[start : start + DEFAULTS.max_batch_texts]
            scores[rows] = _best_of(asked[is_word], *self._encoder.embed_tokens([texts[i] for i in rows]))
        return scores.tolist()


def _best_of(asked: "torch.Tensor", found: "torch.Tensor", is_word: "torch.Tensor") -> "torch.Tensor":
    """Mean over the query's tokens of the best cosine.

    Args:
        asked: float32 [Q, dim], rows of length 1.
        found: float32 [N, T, dim], rows of length 1.
        is_word: bool [N, T]: False for padding and the tokenizer's own tokens.

    Returns:
        float32 [N].
    """
    cosines = found @ asked.T  # [N, T, Q]
    return cosines.masked_fill(~is_word.unsqueeze(-1), -1.0).amax(1).mean(1)
