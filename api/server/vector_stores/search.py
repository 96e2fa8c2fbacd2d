"""Search of vector stores: several queries, several stores, one ranking; filters on attributes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from api.server.collections.library import Library
from api.server.errors import FieldError
from api.server.files.names import file_id_of
from api.server.vector_stores.bodies import HybridSearch, SearchOptions
from api.server.vector_stores.kept import MemberRecord
from precompute.metadata import RESERVED
from retriever.filters import Comparison, Compound, Filter, parse_filter
from retriever.fusion import fuse
from retriever.retrieve import Hit, Retriever
from retriever.search import DEFAULT_METHOD, Method, Search


@dataclass(frozen=True, slots=True)
class StoreHit:
    """A found chunk.

    Attributes:
        member: the file that holds it.
        score: cosine of the chunk and the nearest query, from 0 to 1.
    """

    member: MemberRecord
    hit: Hit
    score: float


Findable = Mapping[str, MemberRecord]
"""The files of a vector store that a search may return, by their ids."""


def search(
    library: Library,
    stores: Mapping[str, Findable],
    queries: Sequence[str],
    search: Search,
    least_score: float = 0.0,
) -> list[StoreHit]:
    """The chunks of vector stores that match queries, best first, each once.

    Rankings of several queries or stores are fused by rank. Slow: it embeds the queries.

    Args:
        stores: by their ids, which are the collections' names.
        search: with `top_k`, which limits the whole result.
        least_score: minimum score of a hit.

    Raises:
        FieldError: the stores' chunks were computed behind different prefixes.
        UnknownCollection: the library does not have a collection.
        QueryError: a query is blank, or an option is wrong.
    """
    retrievers = {store_id: library.retriever(store_id) for store_id in stores}
    check_prefixes(retrievers)
    found: dict[str, StoreHit] = {}
    rankings: list[list[str]] = []
    for store_id, members in stores.items():
        for query in queries:
            hits = _search_one(retrievers[store_id], members, query, search)
            rankings.append([hit.hit.chunk_id for hit in hits])
            for hit in hits:
                known = found.get(hit.hit.chunk_id)
                if known is None or known.score < hit.score:
                    found[hit.hit.chunk_id] = hit
    near = [found[key] for key in _fused(rankings) if found[key].score >= least_score]
    return _within(near, search)


def check_prefixes(retrievers: Mapping[str, Retriever]) -> str:
    """The common prefix of several collections.

    Raises:
        FieldError: their prefixes differ.
    """
    prefixes = {one.collection.settings.prefix for one in retrievers.values()}
    if len(prefixes) > 1:
        raise FieldError(
            f"vector_store_ids: got {', '.join(retrievers)} with {len(prefixes)} different prefixes, "
            "expected stores that share one: a prompt has one prefix, and chunks are computed behind it",
            "vector_store_ids",
        )
    return prefixes.pop()


def search_of(options: SearchOptions, max_results: int, field: str = "") -> Search:
    """The retriever's form of a search's options.

    Args:
        max_results: the default of `max_num_results`.
        field: dotted path of the options in the request, with a dot at its end.

    Raises:
        QueryError: not a valid filter.
        FieldError: the weights are not supported.
    """
    ranking = options.ranking_options
    given = options.filters
    return Search(
        method=_method(ranking.hybrid_search if ranking else None, field),
        top_k=options.max_num_results or max_results,
        filter=None if given is None else attribute_filter(given, f"{field}filters"),
        rerank=False if ranking is not None and ranking.ranker == "none" else None,
    )


def least_score_of(options: SearchOptions) -> float:
    """The requested minimum score."""
    return (options.ranking_options and options.ranking_options.score_threshold) or 0.0


def _method(weights: HybridSearch | None, field: str) -> Method:
    if weights is None:
        return DEFAULT_METHOD
    near, words = weights.embedding_weight, weights.text_weight
    if near == words > 0:
        return Method.FUSED
    if (near > 0) is not (words > 0):
        return Method.DENSE if near > 0 else Method.BM25
    place = f"{field}ranking_options.hybrid_search"
    raise FieldError(
        f"{place}: got embedding_weight {near:g} and text_weight {words:g}, expected equal weights, or one 0",
        place,
    )


def _search_one(retriever: Retriever, members: Findable, query: str, asked: Search) -> list[StoreHit]:
    if not retriever.collection.chunks:
        return []
    wanted = _alive(retriever, members, asked.filter)
    hits = retriever.search(query, replace(asked, filter=wanted))
    cosines = retriever.cosines(query, [hit.chunk_id for hit in hits])
    return [
        StoreHit(members[file_id_of(hit.source)], hit, min(max(cosine, 0.0), 1.0))
        for hit, cosine in zip(hits, cosines, strict=True)
    ]


def _alive(retriever: Retriever, members: Findable, asked: Filter | None) -> Filter | None:
    """The filter, restricted to files that are still in the store: the collection follows a moment later."""
    removed = [path for path in retriever.collection.documents if file_id_of(path) not in members]
    if not removed:
        return asked
    still_there = Comparison("nin", "path", tuple(removed))
    return still_there if asked is None else Compound("and", (asked, still_there))


def _fused(rankings: Sequence[Sequence[str]]) -> Iterable[str]:
    if len(rankings) == 1:
        return rankings[0]
    rows: dict[str, int] = {}
    for key in (key for ranking in rankings for key in ranking):
        rows.setdefault(key, len(rows))
    keys = list(rows)
    return [keys[row] for row, _ in fuse([[(rows[key], 0.0) for key in ranking] for ranking in rankings])]


def _within(hits: Iterable[StoreHit], asked: Search) -> list[StoreHit]:
    """Hits up to the maximum and the token budget; a chunk that does not fit is skipped."""
    left = float("inf") if asked.max_tokens is None else asked.max_tokens
    taken: list[StoreHit] = []
    for hit in hits:
        if len(taken) == asked.max_hits:
            break
        if hit.hit.num_tokens <= left:
            left -= hit.hit.num_tokens
            taken.append(hit)
    return taken


def metadata_of(attributes: Mapping[str, Any]) -> dict[str, str | float | bool]:
    """Attributes as metadata of a document; reserved keys are renamed.

    >>> metadata_of({"lang": "en", "title": "Mr"})
    {'lang': 'en', 'attributes.title': 'Mr'}
    """
    return {_kept(key): value for key, value in attributes.items()}


def attribute_filter(given: Mapping[str, Any], option: str) -> Filter:
    """A filter on attributes.

    >>> attribute_filter({"type": "eq", "key": "title", "value": "Mr"}, "filters").key
    'attributes.title'

    Raises:
        QueryError: not a valid filter.
    """
    return _renamed(parse_filter(given, option))


def _renamed(asked: Filter) -> Filter:
    if isinstance(asked, Comparison):
        return replace(asked, key=_kept(asked.key))
    return Compound(asked.type, tuple(map(_renamed, asked.filters)))


def _kept(key: str) -> str:
    return f"attributes.{key}" if key in RESERVED else key
