"""Search in one collection: from a query to ranked chunks."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from retriever.collection import Collection, Place
from retriever.config import DEFAULTS
from retriever.duplicates import without_duplicates
from retriever.embed import Embedder
from retriever.errors import CollectionError, QueryError
from retriever.filters import Filter, Metadata
from retriever.fusion import fuse
from retriever.index import Ranking, Rows, Vectors
from retriever.passages import Limits, Reading, best_last, take
from retriever.rerank import Reranker, reranked
from retriever.search import DEFAULT_SEARCH, Method, Order, Search

MAX_KEPT_FILTERS = 64
"""Filters whose matching rows are cached for one state of a collection."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One retrieved chunk.

    Attributes:
        chunk_id: its key, opaque here.
        score: of the ranking: cosine, BM25 score, sum of reciprocal ranks, or the re-ranker's score where it
            scored the chunk; None for a neighbour and for a chunk chosen by its id.
        text: the chunk's.
        num_tokens: of the serving model.
        source: path of the first document that holds the chunk and passes the filter.
        title: that document's.
        metadata: that document's.
    """

    chunk_id: str
    score: float | None
    text: str
    num_tokens: int
    source: str
    title: str
    metadata: Metadata


class Retriever:
    """Searches one opened collection; stateless between queries, and safe to call from several threads."""

    def __init__(self, collection: Collection, embedder: Embedder, reranker: Reranker | None = None) -> None:
        """Bind a collection to the model that embedded it, and to a re-ranker.

        Raises:
            CollectionError: `embedder` is not the collection's model.
        """
        if embedder.name != collection.settings.embedder:
            raise CollectionError(
                f"collection {collection.settings.name!r} was embedded by {collection.settings.embedder!r}, "
                f"got {embedder.name!r}: open that model, or precompute the collection again"
            )
        dim = collection.index.dim
        if embedder.dim != dim:
            raise CollectionError(
                f"collection {collection.settings.name!r} has vectors of length {dim}, got {embedder.dim} "
                f"from {embedder.name!r}, which has changed: precompute the collection again"
            )
        self.collection = collection
        self._embedder = embedder
        self._reranker = reranker
        self._passed: dict[str, Rows] = {}
        rows = collection.rows
        self._in_order = {
            path: tuple(rows[chunk_id] for chunk_id in entry.chunk_ids)
            for path, entry in collection.documents.items()
        }

    def search(self, query: str, asked: Search = DEFAULT_SEARCH) -> list[Hit]:
        """The chunks that match a query, in the requested order, each chunk once.

        Args:
            query: any text.

        Raises:
            QueryError: the query is blank, or the search asks for a re-ranker and there is none.
            EmbedderError: the embedding model cannot be reached.
        """
        if not query.strip():
            raise QueryError("the query is empty: expected some text")
        rows = None if asked.filter is None else self._rows_that_pass(asked.filter)
        ranking = self._reranked(query, asked, self._rank(query, asked, rows))
        scores = dict(ranking)
        kept = (row for row, _ in ranking)
        distinct = without_duplicates(kept, self._text) if asked.deduplicate else kept
        limits = Limits(asked.max_hits, asked.max_tokens, asked.neighbours)
        passages = take(distinct, limits, lambda row: self._reading(row, asked.filter), self._num_tokens)
        best_first = asked.order is Order.AS_RANKED
        taken = list(chain.from_iterable(passages)) if best_first else best_last(passages)
        return [self._hit(row, scores.get(row), asked.filter) for row in taken]

    def choose(self, chunk_ids: Sequence[str]) -> list[Hit]:
        """Chunks by their ids, in the order given.

        Raises:
            QueryError: an id is unknown or given twice, or no id is given.
        """
        if not chunk_ids or len(set(chunk_ids)) < len(chunk_ids):
            raise QueryError(f"got {len(chunk_ids)} ids, expected at least one, and none twice", "chunk_ids")
        if unknown := [key for key in chunk_ids if key not in self.collection.rows]:
            raise QueryError(
                f"got {unknown[0][:80]!r}, expected ids of chunks of {self.collection.settings.name!r}",
                "chunk_ids",
            )
        return [self._hit(self.collection.rows[key], None, None) for key in chunk_ids]

    def cosines(self, query: str, chunk_ids: Sequence[str]) -> list[float]:
        """Cosines of chunks and a query, in [-1, 1], in the given order.

        Raises:
            EmbedderError: the embedding model cannot be reached.
        """
        if not chunk_ids:
            return []
        rows = [self.collection.rows[key] for key in chunk_ids]
        [vector] = self._embedder.embed([query])
        wanted_rows = np.array(sorted(set(rows)), dtype=np.int64)
        near = dict(self.collection.index.search(vector, len(wanted_rows), wanted_rows))
        return [near[row] for row in rows]

    def _rank(self, query: str, asked: Search, rows: Rows | None) -> Ranking:
        """Candidates, best first."""
        depth = max(DEFAULTS.candidates, 2 * asked.max_hits)
        if asked.method is Method.BM25:
            ranking = self.collection.words.search(query, depth, rows)
            return [pair for pair in ranking if asked.min_score is None or pair[1] >= asked.min_score]
        [vector] = self._embedder.embed([query])
        ranking = self.collection.index.search(vector, depth, rows)
        cosines = dict(ranking)
        if asked.method is Method.FUSED:
            by_words = self.collection.words.search(query, depth, rows)
            ranking = fuse([ranking, by_words])
        return ranking if asked.min_score is None else self._near(ranking, vector, cosines, asked.min_score)

    def _reranked(self, query: str, asked: Search, ranking: Ranking) -> Ranking:
        """Sort the best candidates by the re-ranker; the others follow unchanged."""
        if self._reranker is None:
            if asked.rerank:
                raise QueryError("got true, which needs a server started with `--reranker MODEL`", "rerank")
            return ranking
        if asked.rerank is False:
            return ranking
        best, others = ranking[: DEFAULTS.rerank_candidates], ranking[DEFAULTS.rerank_candidates :]
        return reranked(self._reranker, query, best, [self._text(row) for row, _ in best]) + others

    def _near(self, ranking: Ranking, vector: Vectors, cosines: dict[int, float], least: float) -> Ranking:
        """Drop candidates whose cosine is below a minimum, also those that only the words found."""
        unknown = np.array(sorted({row for row, _ in ranking} - cosines.keys()), dtype=np.int64)
        near = {**cosines, **dict(self.collection.index.search(vector, len(unknown), unknown))}
        return [(row, score) for row, score in ranking if near[row] >= least]

    def _rows_that_pass(self, wanted: Filter) -> Rows:
        """Rows of the chunks of all documents that pass a filter."""
        key = repr(wanted)  # not the filter itself: 1 equals True
        rows = self._passed.get(key)
        if rows is None:
            if len(self._passed) >= MAX_KEPT_FILTERS:
                self._passed.clear()
            rows = self._passed[key] = self._matching_rows(wanted)
        return rows

    def _matching_rows(self, wanted: Filter) -> Rows:
        collection = self.collection
        passed = (entry for entry in collection.manifest.documents if wanted.passes(entry.filterable))
        rows = {collection.rows[chunk_id] for entry in passed for chunk_id in entry.chunk_ids}
        return np.array(sorted(rows), dtype=np.int64)

    def _place(self, row: int, wanted: Filter | None) -> Place:
        places, documents = self.collection.chunks[row].places, self.collection.documents
        if wanted is None:
            return places[0]
        return next(place for place in places if wanted.passes(documents[place.source].filterable))

    def _reading(self, row: int, wanted: Filter | None) -> Reading:
        place = self._place(row, wanted)
        return Reading(place.source, self._in_order[place.source], place.index)

    def _text(self, row: int) -> str:
        return self.collection.chunks[row].text

    def _num_tokens(self, row: int) -> int:
        return self.collection.chunks[row].num_tokens

    def _hit(self, row: int, score: float | None, wanted: Filter | None) -> Hit:
        chunk, place = self.collection.chunks[row], self._place(row, wanted)
        return Hit(
            chunk_id=chunk.chunk_id,
            score=score,
            text=chunk.text,
            num_tokens=chunk.num_tokens,
            source=place.source,
            title=place.title,
            metadata=self.collection.documents[place.source].metadata,
        )
