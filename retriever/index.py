"""Nearest vectors by inner product: the contract of an index, the flat index of FAISS, its twin in numpy."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Ranking = list[tuple[int, float]]
"""Rows and their scores, best first."""


class Index(Protocol):
    """A set of vectors that can be searched; safe to search from several threads.

    Attributes:
        vectors: float32 [N, dim]; row number i in results means vector i.
        dim: length of a vector.
    """

    @property
    def dim(self) -> int: ...

    @property
    def vectors(self) -> Vectors: ...

    def search(self, query: Vectors, top_k: int, rows: Rows | None = None) -> Ranking:
        """At most `top_k` rows with the largest inner product with `query`, best first.

        Rows of equal score come in ascending order.

        Args:
            query: float32 [dim].
            rows: int64, ascending: restricts the search to these rows; None searches all.
        """

    def to_bytes(self) -> bytes:
        """The index as a file."""


class ExactIndex:
    """Every inner product, sorted."""

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors

    @property
    def dim(self) -> int:
        return int(self._vectors.shape[1])

    @property
    def vectors(self) -> Vectors:
        return self._vectors

    def search(self, query: Vectors, top_k: int, rows: Rows | None = None) -> Ranking:
        scores = (self._vectors if rows is None else self._vectors[rows]) @ query  # [rows]
        best = np.argsort(-scores, kind="stable")[:top_k]
        return [(int(i if rows is None else rows[i]), float(scores[i])) for i in best]

    def to_bytes(self) -> bytes:
        return FlatIndex(self._vectors).to_bytes()


class FlatIndex:
    """FAISS's flat inner-product index: exact, and quick enough for tens of thousands of chunks."""

    def __init__(self, vectors: Vectors) -> None:
        import faiss

        self._index: Any = faiss.IndexFlatIP(vectors.shape[1])
        self._index.add(np.ascontiguousarray(vectors))

    @classmethod
    def of(cls, index: Any) -> "FlatIndex":
        """Wrap an index that FAISS has read."""
        flat = cls.__new__(cls)
        flat._index = index
        return flat

    def to_bytes(self) -> bytes:
        """The index in FAISS's own file format."""
        return serialised(self._index)

    @property
    def dim(self) -> int:
        return int(self._index.d)

    @property
    def vectors(self) -> Vectors:
        vectors: Vectors = self._index.reconstruct_n(0, self._index.ntotal)
        return vectors

    def search(self, query: Vectors, top_k: int, rows: Rows | None = None) -> Ranking:
        import faiss

        top_k = min(top_k, self._index.ntotal if rows is None else len(rows))
        if top_k == 0:
            return []
        params = None if rows is None else faiss.SearchParameters(sel=faiss.IDSelectorBatch(rows))  # type: ignore[call-arg]
        return search_one(self._index, query, top_k, params)


def serialised(index: Any) -> bytes:
    """An index in FAISS's own file format."""
    import faiss

    data: npt.NDArray[np.uint8] = faiss.serialize_index(index)
    return data.tobytes()


def search_one(index: Any, query: Vectors, top_k: int, params: Any) -> Ranking:
    """Search a FAISS index for one query, on one thread.

    A second thread saves nothing here, and while a model keeps the cores busy the first thread waits for it:
    ten milliseconds instead of one.
    """
    import faiss

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # of this thread alone
    try:
        scores, rows = index.search(query[None, :], top_k, params=params)  # both [1, top_k]
    finally:
        faiss.omp_set_num_threads(threads)
    # FAISS pads with row -1 where it finds fewer rows than asked for.
    found = [(int(row), float(score)) for row, score in zip(rows[0], scores[0], strict=True) if row >= 0]
    return sorted(found, key=lambda pair: (-pair[1], pair[0]))
