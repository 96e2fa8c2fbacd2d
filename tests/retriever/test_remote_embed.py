"""Embeddings from a service, over real HTTP."""

import json
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from retriever.collection import Collection
from retriever.embed import open_embedder
from retriever.errors import CollectionError, EmbedderError
from retriever.remote_embed import KEY, MAX_BATCH_TEXTS, MAX_RETRIES, RemoteEmbedder
from retriever.retrieve import Retriever
from tests.support.embedding_server import Service, embedding_server
from tests.support.word_embedder import WordEmbedder


@pytest.fixture
def service() -> Iterator[Service]:
    with embedding_server() as running:
        yield running


@pytest.fixture
def embedder(service: Service) -> RemoteEmbedder:
    return RemoteEmbedder(f"{service.url}#words-3")


def test_vectors_come_in_batches_in_the_order_of_the_texts_with_length_1(
    service: Service, embedder: RemoteEmbedder
) -> None:
    texts = [f"text number {i}" for i in range(2 * MAX_BATCH_TEXTS + 5)]
    vectors = embedder.embed(texts)
    assert vectors.dtype == np.float32
    assert np.allclose(vectors, WordEmbedder().embed(texts), atol=1e-6)
    assert service.batches == [1, MAX_BATCH_TEXTS, MAX_BATCH_TEXTS, 5]
    assert service.models == {"words-3"}
    assert embedder.embed([]).shape == (0, 64)


def test_the_name_opens_the_same_service_again(embedder: RemoteEmbedder) -> None:
    again = open_embedder(embedder.name)
    assert isinstance(again, RemoteEmbedder)
    assert (again.name, again.dim) == (embedder.name, 64)


def test_the_key_comes_from_the_environment_and_stays_out_of_errors(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, "a-secret")
    embedder = RemoteEmbedder(f"{service.url}#m")
    assert service.keys == ["Bearer a-secret"]
    service.refusals = [401]
    with pytest.raises(EmbedderError, match="status 401") as refused:
        embedder.embed(["x"])
    assert "a-secret" not in str(refused.value)
    assert KEY in str(refused.value)


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_what_passes_is_asked_again(service: Service, embedder: RemoteEmbedder, status: int) -> None:
    service.refusals = [status] * MAX_RETRIES
    assert embedder.embed(["x y"]).shape == (1, 64)
    assert service.refusals == []


def test_what_does_not_pass_is_an_error_that_names_the_service(
    service: Service, embedder: RemoteEmbedder
) -> None:
    service.refusals = [503] * (MAX_RETRIES + 1)
    with pytest.raises(EmbedderError, match=r"embedding service http.*#words-3: status 503.*Expected"):
        embedder.embed(["x"])
    service.refusals = [400]
    with pytest.raises(EmbedderError, match="status 400"):
        embedder.embed(["x"])
    assert service.refusals == [], "what is refused for good is asked once"


def vector(index: int, *numbers: float) -> dict[str, object]:
    return {"index": index, "embedding": list(numbers)}


@pytest.mark.parametrize(
    ("garbage", "reason"),
    [
        ({"detail": "hello"}, "no list of vectors"),
        ([], "no list of vectors"),
        ("hello", "no list of vectors"),
        ({"data": []}, "got 0 vectors, expected one for each of 2"),
        ({"data": [vector(0, 1.0), vector(0, 1.0)]}, "got 2 vectors, expected one for each of 2"),
        ({"data": [vector(0, 1.0), vector(1, 1.0, 2.0)]}, "no list of vectors"),
        ({"data": [vector(0, 1.0), vector(1, 2.0)]}, "got vectors of 1 numbers, expected 64"),
        ({"data": [vector(0, *[0.0] * 64), vector(1, *[1.0] * 64)]}, "without a direction"),
        ({"data": [{"embedding": [1.0]}, {"embedding": [1.0]}]}, "no list of vectors"),
    ],
)
def test_an_answer_that_is_none(
    service: Service, embedder: RemoteEmbedder, garbage: object, reason: str
) -> None:
    service.garbage = json.loads(json.dumps(garbage))
    with pytest.raises(EmbedderError, match=reason):
        embedder.embed(["x", "y"])


@pytest.mark.parametrize(
    "name", ["http://host/v1", "https://#model", "http://me:pass@host/v1#m", "http://h/?a#m"]
)
def test_a_name_that_is_none_is_refused_before_anything_is_sent(name: str) -> None:
    with pytest.raises(EmbedderError, match="expected its base URL and the model") as refused:
        open_embedder(name)
    assert "pass" not in str(refused.value)


def test_a_service_that_is_not_there(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retriever.remote_embed.MAX_RETRIES", 0)
    with pytest.raises(EmbedderError, match="no answer"):
        RemoteEmbedder("http://127.0.0.1:9/v1#m")


def test_a_collection_is_searched_with_vectors_as_long_as_its_own(
    embedder: RemoteEmbedder, make_collection: Callable[..., Collection]
) -> None:
    collection = make_collection({"a.md": ["the cat sat", "dogs run"]}, embedder=embedder.name)
    assert Retriever(collection, embedder).search("cat")[0].text == "the cat sat"
    embedder.dim = 32
    with pytest.raises(CollectionError, match="vectors of length 64, got 32"):
        Retriever(collection, embedder)
