"""Which index a number of vectors gets, and reading any index back from its bytes."""

from typing import Any

import numpy as np

from retriever.config import DEFAULTS
from retriever.hnsw import HnswIndex
from retriever.index import FlatIndex, Index, Vectors


def build_index(vectors: Vectors, previous: Index | None = None) -> Index:
    """The index for a number of vectors: flat, or a graph from `hnsw_from_chunks` vectors on.

    Args:
        vectors: float32 [N, dim], of length 1.
        previous: index of an earlier state; a graph is updated in place, so it must not be used afterwards.
    """
    if len(vectors) < DEFAULTS.hnsw_from_chunks:
        return FlatIndex(vectors)
    if isinstance(previous, HnswIndex) and previous.dim == vectors.shape[1] and previous.update(vectors):
        return previous
    return HnswIndex(vectors)


def read_index(data: bytes) -> Index:
    """Inverse of any index's `to_bytes`.

    Raises:
        ValueError: the bytes are not an index that `to_bytes` wrote.
    """
    import faiss

    try:
        index: Any = faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8))
    except RuntimeError as error:
        raise ValueError(f"not a FAISS index: {error}") from error
    if isinstance(index, faiss.IndexFlatIP):
        return FlatIndex.of(index)
    if isinstance(index, faiss.IndexIDMap):
        return HnswIndex.of(index)
    raise ValueError(f"expected a flat index or a graph, got {type(index).__name__}")
