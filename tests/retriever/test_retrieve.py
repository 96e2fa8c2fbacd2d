"""Queries become ranked chunks."""

from collections.abc import Callable
from typing import Any

import pytest

from retriever.collection import Collection
from retriever.embed import Embedder
from retriever.errors import CollectionError, QueryError
from retriever.filters import parse_filter
from retriever.retrieve import Retriever
from retriever.search import Method, Order, Search

MakeCollection = Callable[..., Collection]
CONTENTS = {
    "cats.md": ["the cat sat on the mat", "cats purr when content"],
    "cars.md": ["engines burn petrol", "the cat sat on the mat"],
}


@pytest.mark.parametrize("exact", [False, True])
def test_the_nearest_comes_first_with_its_text_and_source(
    make_collection: MakeCollection, embedder: Embedder, exact: bool
) -> None:
    hits = Retriever(make_collection(CONTENTS, exact=exact), embedder).search("burn petrol", Search(top_k=2))
    assert len(hits) == 2
    assert hits[0].text == "engines burn petrol"
    assert (hits[0].source, hits[0].title) == ("cars.md", "Title of cars.md")
    assert hits[0].score > hits[1].score


def test_a_chunk_of_two_documents_is_found_once(make_collection: MakeCollection, embedder: Embedder) -> None:
    hits = Retriever(make_collection(CONTENTS), embedder).search(
        "the cat sat on the mat", Search(Method.DENSE, top_k=10)
    )
    assert len(hits) == len({hit.chunk_id for hit in hits}) == 3
    assert hits[0].source == "cats.md"
    assert hits[0].score == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(("query", "top_k"), [("", 3), (" \n", 3), ("cat", 0), ("cat", -1)])
def test_what_cannot_be_searched(
    make_collection: MakeCollection, embedder: Embedder, query: str, top_k: int
) -> None:
    with pytest.raises(QueryError, match="expected"):
        Retriever(make_collection(CONTENTS), embedder).search(query, Search(top_k=top_k))


def test_another_embedding_model_is_refused(make_collection: MakeCollection, embedder: Embedder) -> None:
    collection = make_collection(CONTENTS)
    embedder.name = "other"
    with pytest.raises(CollectionError, match=r"embedded by 'words', got 'other'"):
        Retriever(collection, embedder)


YEARS = {"cats.md": {"year": 2020}, "cars.md": {"year": 1990, "draft": True}}


def asked(**options: Any) -> Search:
    return Search(**{"top_k": 10, **options})


@pytest.mark.parametrize("method", Method)
def test_every_method_finds_what_belongs_to_the_query_first(
    make_collection: MakeCollection, embedder: Embedder, method: Method
) -> None:
    hits = Retriever(make_collection(CONTENTS), embedder).search("engines petrol", asked(method=method))
    assert hits[0].text == "engines burn petrol"
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert len(hits) == (1 if method is Method.BM25 else 3), "BM25 ranks what shares a word"


def test_words_bring_in_what_vectors_rank_low(make_collection: MakeCollection, embedder: Embedder) -> None:
    retriever = Retriever(make_collection(CONTENTS), embedder)
    by_vector = retriever.search("contents", asked(method=Method.DENSE))
    assert by_vector[0].text == "engines burn petrol", "the hashed words collide"
    assert retriever.search("contents", asked(method=Method.BM25))[0].text == "cats purr when content"
    fused = [hit.text for hit in retriever.search("contents", asked())]
    assert fused[0] == "cats purr when content", "third and first are more than first and nothing"


@pytest.mark.parametrize("method", Method)
def test_a_filter_holds_and_names_the_document_that_passed(
    make_collection: MakeCollection, embedder: Embedder, method: Method
) -> None:
    retriever = Retriever(make_collection(CONTENTS, metadata=YEARS), embedder)
    wanted = parse_filter({"type": "lt", "key": "year", "value": 2000})
    hits = retriever.search("the cat sat", asked(method=method, filter=wanted))
    assert hits[0].text == "the cat sat on the mat"
    assert {hit.source for hit in hits} == {"cars.md"}, "the text stands in both, one of them passes"
    nothing = parse_filter({"type": "eq", "key": "path", "value": "boats.md"})
    assert retriever.search("the cat sat", asked(method=method, filter=nothing)) == []


def test_filters_that_python_calls_equal_are_not_taken_for_each_other(
    make_collection: MakeCollection, embedder: Embedder
) -> None:
    retriever = Retriever(make_collection(CONTENTS, metadata=YEARS), embedder)

    def found(value: Any) -> int:
        wanted = parse_filter({"type": "eq", "key": "draft", "value": value})
        return len(retriever.search("the cat sat", asked(filter=wanted)))

    assert (found(1), found(True), found(1)) == (0, 2, 0)


def test_a_least_score_is_a_cosine_but_with_bm25(make_collection: MakeCollection, embedder: Embedder) -> None:
    retriever = Retriever(make_collection(CONTENTS), embedder)
    query = "the cat sat on the mat"
    for method in (Method.DENSE, Method.FUSED):
        assert len(retriever.search(query, asked(method=method, min_score=0.99))) == 1
        assert retriever.search("zebra", asked(method=method, min_score=0.99)) == []
    [best, *_] = retriever.search(query, asked(method=Method.BM25))
    assert best.score is not None
    assert len(retriever.search(query, asked(method=Method.BM25, min_score=best.score))) == 1
    assert retriever.search(query, asked(method=Method.BM25, min_score=best.score + 1)) == []


def test_a_token_budget_takes_the_place_of_the_count(
    make_collection: MakeCollection, embedder: Embedder
) -> None:
    contents = {f"{i}.md": [f"cat number {i} of many others here"] for i in range(30)}
    retriever = Retriever(make_collection(contents), embedder)
    assert len(retriever.search("cat", Search())) == 6
    hits = retriever.search("cat", Search(max_tokens=100))
    assert len(hits) == 100 // 7
    assert sum(hit.num_tokens for hit in hits) <= 100
    assert len(retriever.search("cat", Search(max_tokens=100, top_k=2))) == 2


def test_neighbours_come_in_document_order_and_carry_no_score(
    make_collection: MakeCollection, embedder: Embedder
) -> None:
    contents = {"a.md": ["one day", "the cat sat", "and slept"], "b.md": ["cars roll", "petrol burns"]}
    retriever = Retriever(make_collection(contents), embedder)
    options = {"method": Method.BM25, "neighbours": 1}
    hits = retriever.search("cat", asked(**options))
    assert [hit.text for hit in hits] == contents["a.md"]
    assert [hit.score is None for hit in hits] == [True, False, True]
    both = retriever.search("cat cat petrol", asked(**options, order=Order.BEST_LAST))
    assert [hit.text for hit in both] == contents["b.md"] + contents["a.md"]


def test_near_duplicates_are_left_out_unless_wanted(
    make_collection: MakeCollection, embedder: Embedder
) -> None:
    contents = {"a.md": ["The cat sat on the mat"], "b.md": ["the cat sat on the mat."], "c.md": ["a cat"]}
    retriever = Retriever(make_collection(contents), embedder)
    assert len(retriever.search("cat mat", asked())) == 2
    assert len(retriever.search("cat mat", asked(deduplicate=False))) == 3


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"top_k": 0}, "top_k"),
        ({"top_k": 257}, "top_k"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"neighbours": -1}, "neighbours"),
        ({"neighbours": 17}, "neighbours"),
        ({"min_score": float("nan")}, "min_score"),
    ],
)
def test_an_option_out_of_its_range_is_refused_by_its_name(options: dict[str, Any], option: str) -> None:
    with pytest.raises(QueryError, match=rf"^{option}: got .*, expected") as refused:
        Search(**options)
    assert refused.value.option == option
