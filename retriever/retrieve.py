"""A query becomes ranked chunks."""

from collections.abc import Sequence
from dataclasses import dataclass

from retriever.collection import Collection
from retriever.config import DEFAULTS
from retriever.embed import Embedder
from retriever.errors import CollectionError, QueryError


@dataclass(frozen=True, slots=True)
class Hit:
    """One retrieved chunk.

    Attributes:
        chunk_id: its key, opaque here.
        score: cosine of query and chunk, in [-1, 1].
        text: the chunk's.
        source: path of the first document it stands in.
        title: that document's.
    """

    chunk_id: str
    score: float
    text: str
    source: str
    title: str


def prompt_order(hits: Sequence[Hit]) -> list[Hit]:
    """Hits in the order in which they stand in a prompt: the best one last, next to the question.

    Models use what stands at the end of a long context best, small ones most of all. What is blended may
    stand in any order, so this costs nothing.

    Args:
        hits: best first.

    Reference: Lost in the Middle, https://arxiv.org/abs/2307.03172
    """
    return list(reversed(hits))


class Retriever:
    """Searches one opened collection; stateless between queries, and safe to call from several threads."""

    def __init__(self, collection: Collection, embedder: Embedder) -> None:
        """Bind a collection to the model that embedded it.

        Raises:
            CollectionError: `embedder` is another model.
        """
        if embedder.name != collection.settings.embedder:
            raise CollectionError(
                f"collection {collection.settings.name!r} was embedded by {collection.settings.embedder!r}, "
                f"got {embedder.name!r}: open that model, or precompute the collection again"
            )
        self.collection = collection
        self._embedder = embedder

    def search(self, query: str, top_k: int = DEFAULTS.top_k) -> list[Hit]:
        """The chunks nearest to a query, best first, each chunk once.

        Args:
            query: any text.
            top_k: most hits to return, at least 1.

        Raises:
            QueryError: the query is blank, or `top_k` is less than 1.
        """
        if not query.strip():
            raise QueryError("the query is empty: expected some text")
        if top_k < 1:
            raise QueryError(f"top_k is {top_k}: expected at least 1")
        [vector] = self._embedder.embed([query])
        return [self._hit(row, score) for row, score in self.collection.index.search(vector, top_k)]

    def _hit(self, row: int, score: float) -> Hit:
        chunk = self.collection.chunks[row]
        return Hit(chunk.chunk_id, score, chunk.text, chunk.places[0].source, chunk.places[0].title)
