"""A second look at the best candidates, by a model that reads query and chunk together."""

from collections.abc import Sequence
from typing import Protocol

from retriever.index import Ranking


class Reranker(Protocol):
    """Scores texts for a query; the larger, the better. Called from several threads.

    Attributes:
        name: what users write.
    """

    name: str

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """One finite number for each text, in their order."""


def reranked(reranker: Reranker, query: str, ranking: Ranking, texts: Sequence[str]) -> Ranking:
    """The candidates by the re-ranker's scores; equals keep their order.

    Args:
        texts: of the rows of `ranking`, in its order.
    """
    scores = reranker.score(query, texts)
    rows = [row for row, _ in ranking]
    return sorted(zip(rows, scores, strict=True), key=lambda pair: -pair[1])
