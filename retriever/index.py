"""Nearest vectors by inner product: FAISS, and its naive twin in numpy."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]


class Index(Protocol):
    """An immutable set of vectors that can be searched; safe to call from several threads.

    Attributes:
        vectors: float32 [N, dim], row i is what row number i means in results.
    """

    @property
    def vectors(self) -> Vectors: ...

    def search(self, query: Vectors, top_k: int) -> list[tuple[int, float]]:
        """The `min(top_k, N)` rows with the largest inner product with `query`, best first.

        Rows of equal score come in ascending order.

        Args:
            query: float32 [dim].
        """


class ExactIndex:
    """Every inner product, sorted."""

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors

    @property
    def vectors(self) -> Vectors:
        return self._vectors

    def search(self, query: Vectors, top_k: int) -> list[tuple[int, float]]:
        scores = self._vectors @ query  # [N]
        best = np.argsort(-scores, kind="stable")[:top_k]
        return [(int(row), float(scores[row])) for row in best]


class FaissIndex:
    """FAISS's flat inner-product index."""

    def __init__(self, vectors: Vectors) -> None:
        import faiss

        self._index: Any = faiss.IndexFlatIP(vectors.shape[1])
        self._index.add(np.ascontiguousarray(vectors))

    @classmethod
    def from_bytes(cls, data: bytes) -> "FaissIndex":
        """Inverse of `to_bytes`.

        Raises:
            ValueError: the bytes hold no flat index.
        """
        import faiss

        index = cls.__new__(cls)
        try:
            index._index = faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8))
        except RuntimeError as error:
            raise ValueError(f"not a FAISS index: {error}") from error
        if not isinstance(index._index, faiss.IndexFlatIP):
            raise ValueError(f"expected an IndexFlatIP, got {type(index._index).__name__}")
        return index

    def to_bytes(self) -> bytes:
        """The index in FAISS's own file format."""
        import faiss

        serialized: npt.NDArray[np.uint8] = faiss.serialize_index(self._index)
        return serialized.tobytes()

    @property
    def vectors(self) -> Vectors:
        vectors: Vectors = self._index.reconstruct_n(0, self._index.ntotal)
        return vectors

    def search(self, query: Vectors, top_k: int) -> list[tuple[int, float]]:
        scores, rows = self._index.search(query[None, :], min(top_k, self._index.ntotal))  # both [1, k]
        found = [(int(row), float(score)) for row, score in zip(rows[0], scores[0], strict=True)]
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))
