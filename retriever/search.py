"""Options of a search: ranking, filter, number and order of the chunks."""

import math
from dataclasses import dataclass
from enum import StrEnum

from retriever.config import DEFAULTS
from retriever.errors import QueryError
from retriever.filters import Filter


class Method(StrEnum):
    """Ranking by vectors, by words, or by the ranks in both."""

    DENSE = "dense"
    BM25 = "bm25"
    FUSED = "fused"


DEFAULT_METHOD = Method(DEFAULTS.method)


class Order(StrEnum):
    """Order of the chunks: best first, or best last, next to the question.

    Models, small ones above all, use the end of a long context best. Blended chunks may stand in any order,
    so this costs nothing.

    Reference: Lost in the Middle, https://arxiv.org/abs/2307.03172
    """

    AS_RANKED = "as_ranked"
    BEST_LAST = "best_last"


@dataclass(frozen=True, slots=True)
class Search:
    """The options of a search.

    Attributes:
        method: how chunks are ranked.
        top_k: maximum of hits; None means the default, or with a token budget the maximum allowed.
        max_tokens: budget, in the served model's tokens, of chunks and neighbours together; a chunk that does
            not fit is skipped.
        min_score: minimum cosine of query and chunk, in [-1, 1]; with `bm25`, minimum BM25 score.
        filter: which documents are searched.
        neighbours: chunks before and after each hit in its document that are added.
        deduplicate: drop near-duplicates of a better chunk.
        rerank: True requires the re-ranker, False skips it, None uses it where there is one.
        order: of the chunks; adjacent chunks of a document keep the document's order.
    """

    method: Method = DEFAULT_METHOD
    top_k: int | None = None
    max_tokens: int | None = None
    min_score: float | None = None
    filter: Filter | None = None
    neighbours: int = 0
    deduplicate: bool = True
    rerank: bool | None = None
    order: Order = Order.AS_RANKED

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            QueryError: a value is out of range.
        """
        _check("top_k", self.top_k, 1, DEFAULTS.max_top_k)
        _check("max_tokens", self.max_tokens, 1, None)
        _check("neighbours", self.neighbours, 0, DEFAULTS.max_neighbours)
        if self.min_score is not None and not math.isfinite(self.min_score):
            raise QueryError(f"got {self.min_score}, expected a finite number", "min_score")

    @property
    def max_hits(self) -> int:
        """Maximum of hits, not counting neighbours."""
        if self.top_k is not None:
            return self.top_k
        return DEFAULTS.top_k if self.max_tokens is None else DEFAULTS.max_top_k


def _check(option: str, value: int | None, minimum: int, maximum: int | None) -> None:
    if value is not None and not (minimum <= value and (maximum is None or value <= maximum)):
        expected = f"at least {minimum}" if maximum is None else f"{minimum} to {maximum}"
        raise QueryError(f"got {value}, expected {expected}", option)


DEFAULT_SEARCH = Search()
