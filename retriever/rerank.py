"""Re-ranking of the best candidates, by a model that scores query and chunk together."""

from collections.abc import Sequence
from typing import Protocol

from retriever.embed import TransformerEmbedder, open_embedder
from retriever.errors import EmbedderError
from retriever.index import Ranking


class Reranker(Protocol):
    """Scores texts for a query, higher is better. Called from several threads.

    Attributes:
        name: the name that users write.
    """

    name: str

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """One finite number for each text, in their order."""


def reranked(reranker: Reranker, query: str, ranking: Ranking, texts: Sequence[str]) -> Ranking:
    """Sort candidates by the re-ranker's scores; equal scores keep their order.

    Args:
        texts: of the rows of `ranking`, in its order.
    """
    scores = reranker.score(query, texts)
    rows = [row for row, _ in ranking]
    return sorted(zip(rows, scores, strict=True), key=lambda pair: -pair[1])


def open_reranker(name: str) -> Reranker:
    """Load a re-ranking model.

    Args:
        name: a cross-encoder's local folder or hub id, or `late:` and a local embedding model as
            `open_embedder` takes it.

    Raises:
        EmbedderError: the model cannot be found or read, or is not a re-ranker.
    """
    from retriever.cross_encoder import CrossEncoder
    from retriever.late_interaction import LATE, LateInteraction

    if not name.startswith(LATE):
        return CrossEncoder(name)
    encoder = open_embedder(name.removeprefix(LATE))
    if not isinstance(encoder, TransformerEmbedder):
        raise EmbedderError(f"got {name!r}, expected {LATE} and the name of a local embedding model")
    return LateInteraction(encoder)
