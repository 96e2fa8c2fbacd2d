"""A graph of near neighbours, for collections too large for a comparison with every vector.

Reference: Malkov and Yashunin, https://arxiv.org/abs/1603.09320.
"""

from typing import Any

import numpy as np

from retriever.config import DEFAULTS
from retriever.index import ExactIndex, Ranking, Rows, Vectors, search_one, serialised

LINKS = 32
"""Edges of each vector in the graph (M in the paper)."""
BUILD_BREADTH = 200
SEARCH_BREADTH = 128
"""Candidates kept during construction and search: larger values raise recall and time."""


class HnswIndex:
    """FAISS's HNSW index under an ID map from stored vectors to current rows; threads may search it.

    The vector of a removed chunk stays in the graph as a link to others, under the id `GONE`, which no search
    returns.
    """

    GONE = -1  # FAISS's own id for "no row"

    def __init__(self, vectors: Vectors) -> None:
        import faiss

        graph = faiss.IndexHNSWFlat(vectors.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = BUILD_BREADTH
        self._index: Any = faiss.IndexIDMap(graph)
        self._index.add_with_ids(np.ascontiguousarray(vectors), np.arange(len(vectors)))
        self._num_rows = len(vectors)

    @classmethod
    def of(cls, index: Any) -> "HnswIndex":
        """Wrap an index that FAISS has read."""
        graph = cls.__new__(cls)
        graph._index = index
        graph._num_rows = int((graph._rows() != cls.GONE).sum())
        return graph

    @property
    def dim(self) -> int:
        return int(self._index.d)

    @property
    def vectors(self) -> Vectors:
        rows = self._rows()
        vectors = np.empty((self._num_rows, self.dim), dtype=np.float32)
        alive = rows != self.GONE
        vectors[rows[alive]] = self._stored()[alive]
        return vectors

    def to_bytes(self) -> bytes:
        """The index in FAISS's own file format."""
        return serialised(self._index)

    def search(self, query: Vectors, top_k: int, rows: Rows | None = None) -> Ranking:
        import faiss

        if rows is not None and len(rows) < DEFAULTS.hnsw_from_chunks:
            return self._search_exactly(
                query, top_k, rows
            )  # through few allowed rows a graph search finds nothing
        allowed = faiss.IDSelectorRange(0, self._num_rows) if rows is None else faiss.IDSelectorBatch(rows)
        params = faiss.SearchParametersHNSW(efSearch=max(SEARCH_BREADTH, top_k), sel=allowed)  # type: ignore[attr-defined]
        return search_one(self._index, query, min(top_k, self._num_rows), params)

    def update(self, vectors: Vectors) -> bool:
        """Set the rows of this index; vectors that it already holds are not inserted again.

        Args:
            vectors: float32 [N, dim].

        Returns:
            False, and no change, when too many stored vectors would be dead: rebuild the index then.
        """
        import faiss

        free: dict[bytes, list[int]] = {}
        stored = self._stored()
        for place, vector in enumerate(stored):
            free.setdefault(vector.tobytes(), []).append(place)
        rows = np.full(len(stored), self.GONE, dtype=np.int64)  # [stored], new row of each
        new = []
        for row, vector in enumerate(vectors):
            places = free.get(vector.tobytes())
            if places:
                rows[places.pop()] = row
            else:
                new.append(row)
        dead = int((rows == self.GONE).sum())
        if dead > DEFAULTS.max_dead_share * (len(stored) + len(new)):
            return False
        faiss.copy_array_to_vector(rows, self._index.id_map)
        if new:
            self._index.add_with_ids(np.ascontiguousarray(vectors[new]), np.array(new, dtype=np.int64))
        self._num_rows = len(vectors)
        return True

    def _search_exactly(self, query: Vectors, top_k: int, rows: Rows) -> Ranking:
        if not len(rows):
            return []
        places = np.empty(self._num_rows, dtype=np.int64)  # [N], place of each row's vector
        meant = self._rows()
        alive = np.flatnonzero(meant != self.GONE)
        places[meant[alive]] = alive
        found = ExactIndex(self._graph.reconstruct_batch(places[rows])).search(query, top_k)
        return [(int(rows[i]), score) for i, score in found]

    @property
    def _graph(self) -> Any:
        import faiss

        return faiss.downcast_index(self._index.index)

    def _rows(self) -> Rows:
        import faiss

        rows: Rows = faiss.vector_to_array(self._index.id_map)
        return rows

    def _stored(self) -> Vectors:
        vectors: Vectors = self._graph.reconstruct_n(0, self._index.ntotal)
        return vectors
