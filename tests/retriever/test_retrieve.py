"""Queries become ranked chunks."""

from collections.abc import Callable

import pytest

from retriever.collection import Collection
from retriever.embed import Embedder
from retriever.errors import CollectionError, QueryError
from retriever.retrieve import Retriever

MakeCollection = Callable[..., Collection]
CONTENTS = {
    "cats.md": ["the cat sat on the mat", "cats purr when content"],
    "cars.md": ["engines burn petrol", "the cat sat on the mat"],
}


@pytest.mark.parametrize("exact", [False, True])
def test_the_nearest_comes_first_with_its_text_and_source(
    make_collection: MakeCollection, embedder: Embedder, exact: bool
) -> None:
    hits = Retriever(make_collection(CONTENTS, exact=exact), embedder).search("burn petrol", top_k=2)
    assert len(hits) == 2
    assert hits[0].text == "engines burn petrol"
    assert (hits[0].source, hits[0].title) == ("cars.md", "Title of cars.md")
    assert hits[0].score > hits[1].score


def test_a_chunk_of_two_documents_is_found_once(make_collection: MakeCollection, embedder: Embedder) -> None:
    hits = Retriever(make_collection(CONTENTS), embedder).search("the cat sat on the mat", top_k=10)
    assert len(hits) == len({hit.chunk_id for hit in hits}) == 3
    assert hits[0].source == "cats.md"
    assert hits[0].score == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(("query", "top_k"), [("", 3), (" \n", 3), ("cat", 0), ("cat", -1)])
def test_what_cannot_be_searched(
    make_collection: MakeCollection, embedder: Embedder, query: str, top_k: int
) -> None:
    with pytest.raises(QueryError, match="expected"):
        Retriever(make_collection(CONTENTS), embedder).search(query, top_k)


def test_another_embedding_model_is_refused(make_collection: MakeCollection, embedder: Embedder) -> None:
    collection = make_collection(CONTENTS)
    embedder.name = "other"
    with pytest.raises(CollectionError, match=r"embedded by 'words', got 'other'"):
        Retriever(collection, embedder)
