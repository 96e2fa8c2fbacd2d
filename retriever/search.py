"""What a search may ask for: how chunks are ranked, which count, how many are taken, and in which order."""

import math
from dataclasses import dataclass
from enum import StrEnum

from retriever.config import DEFAULTS
from retriever.errors import QueryError
from retriever.filters import Filter


class Method(StrEnum):
    """How chunks are ranked: by their vectors, by their words, or by their ranks in both."""

    DENSE = "dense"
    BM25 = "bm25"
    FUSED = "fused"


DEFAULT_METHOD = Method(DEFAULTS.method)


class Order(StrEnum):
    """How the chunks that were taken follow each other: best first, or best last, next to the question.

    Models use what stands at the end of a long context best, small ones most of all. What is blended may
    stand in any order, so this costs nothing.

    Reference: Lost in the Middle, https://arxiv.org/abs/2307.03172
    """

    AS_RANKED = "as_ranked"
    BEST_LAST = "best_last"


@dataclass(frozen=True, slots=True)
class Search:
    """The options of a search.

    Attributes:
        method: how chunks are ranked.
        top_k: most hits; the default unless there is a token budget, the most allowed otherwise.
        max_tokens: the serving model's tokens that chunks and neighbours may have together. Best ones first;
            one that does not fit any more is passed over.
        min_score: least cosine of query and chunk that counts, in [-1, 1]; with `bm25`, least BM25 score.
        filter: which documents are looked at.
        neighbours: chunks before and after each hit in its document that come with it.
        deduplicate: leave out a chunk that says nearly the same as a better one.
        rerank: have the re-ranker read the best ones; None: where there is one.
        order: how the chunks follow each other. Those that stand together in a document keep its order.
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
            QueryError: a value is out of its own.
        """
        _check("top_k", self.top_k, 1, DEFAULTS.max_top_k)
        _check("max_tokens", self.max_tokens, 1, None)
        _check("neighbours", self.neighbours, 0, DEFAULTS.max_neighbours)
        if self.min_score is not None and not math.isfinite(self.min_score):
            raise QueryError(f"got {self.min_score}, expected a finite number", "min_score")

    @property
    def max_hits(self) -> int:
        """Most hits, neighbours not counted."""
        if self.top_k is not None:
            return self.top_k
        return DEFAULTS.top_k if self.max_tokens is None else DEFAULTS.max_top_k


def _check(option: str, value: int | None, least: int, most: int | None) -> None:
    if value is not None and not (least <= value and (most is None or value <= most)):
        expected = f"at least {least}" if most is None else f"{least} to {most}"
        raise QueryError(f"got {value}, expected {expected}", option)


DEFAULT_SEARCH = Search()
