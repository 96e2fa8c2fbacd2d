"""What clients read of collections: lists, pages, searches, and what they are told when they ask wrongly."""

from argparse import Namespace
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from vllm.entrypoints.serve.exception_handling.register import init_exception_handler

from api.server.collections.library import Library
from api.server.collections.routes import collections_router
from api.server.errors import install_handlers
from retriever.manifest import DocumentEntry, Settings
from retriever.publish import ChunkText, publish
from tests.support.word_embedder import WordEmbedder

TEXTS = {
    "cats": "cats sleep for most of the day",
    "dogs": "dogs run after every ball",
    "birds": "birds fly south when winter comes",
    "fish": "fish swim in schools",
}
DOCUMENTS = [
    DocumentEntry(
        "pets.md", "Pets", "0" * 64, ("dogs", "cats"), {"tame": True, "tags": ("a", "b"), "legs": 4}
    ),
    DocumentEntry("wild/all.md", "All", "1" * 64, ("birds", "cats", "fish")),
]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    """The routes over a real library of one collection, with the error handlers that the server has."""
    store: Path = tmp_path_factory.mktemp("store")
    settings = Settings("docs", "the-model", "fp", "Be brief.", None, 512, "rule", WordEmbedder.name)
    chunks = [ChunkText(key, text, len(text.split())) for key, text in TEXTS.items()]
    publish(store, settings, DOCUMENTS, chunks, WordEmbedder().embed(list(TEXTS.values())))
    app = FastAPI()
    app.state.args = Namespace(log_error_stack=False)
    init_exception_handler(app)
    install_handlers(app)
    app.include_router(collections_router(Library(store, ["docs"], opener=lambda name: WordEmbedder())))
    return TestClient(app)


def error(answer) -> dict:
    assert set(answer.json()) == {"error"}
    found = answer.json()["error"]
    assert found["code"] == answer.status_code
    return found


def test_a_collection_says_what_is_in_it(client):
    docs = {
        "object": "collection",
        "name": "docs",
        "documents": 2,
        "chunks": 4,
        "tokens": 22,
        "model": "the-model",
        "embedder": WordEmbedder.name,
        "prefix": "Be brief.",
    }
    assert client.get("/v1/collections").json() == {"object": "list", "data": [docs]}
    assert client.get("/v1/collections/docs").json() == docs


def test_chunks_come_in_reading_order_each_once_and_page_by_page(client):
    seen, after = [], {}
    while True:
        page = client.get("/v1/collections/docs/chunks", params={"limit": 3, **after}).json()
        seen.extend(page["data"])
        if not page["has_more"]:
            break
        after = {"after": page["data"][-1]["id"]}
    assert [chunk["id"] for chunk in seen] == ["dogs", "cats", "birds", "fish"]
    assert seen[1] == {
        "object": "collection.chunk",
        "id": "cats",
        "source": "pets.md",
        "title": "Pets",
        "text": TEXTS["cats"],
        "tokens": 7,
    }


def test_a_page_that_ends_with_the_list_has_no_more(client):
    page = client.get("/v1/collections/docs/chunks", params={"limit": 4}).json()
    assert len(page["data"]) == 4 and page["has_more"] is False


def test_chunks_of_one_document_are_named_after_it(client):
    page = client.get("/v1/collections/docs/chunks", params={"document": "wild/all.md"}).json()
    assert [(chunk["id"], chunk["source"]) for chunk in page["data"]] == [
        ("birds", "wild/all.md"),
        ("cats", "wild/all.md"),
        ("fish", "wild/all.md"),
    ]


def test_a_search_finds_the_best_first_with_its_documents_metadata(client):
    body = {"query": "who will run after a ball", "top_k": 2}
    hits = client.post("/v1/collections/docs/search", json=body).json()["data"]
    assert hits[0]["chunk_id"] == "dogs" and len(hits) == 2
    assert hits[0]["metadata"] == {"tame": True, "tags": ["a", "b"], "legs": 4}
    assert hits[0]["score"] >= hits[1]["score"]
    last = client.post("/v1/collections/docs/search", json={**body, "order": "best_last"}).json()["data"]
    assert [hit["chunk_id"] for hit in last] == [hit["chunk_id"] for hit in reversed(hits)]


def test_a_search_takes_the_filters_of_rag(client):
    only = {"type": "eq", "key": "path", "value": "wild/all.md"}
    body = {"query": "cats", "filter": only, "method": "bm25"}
    hits = client.post("/v1/collections/docs/search", json=body).json()["data"]
    assert {hit["source"] for hit in hits} == {"wild/all.md"}


@pytest.mark.parametrize("path", ["/nothing", "/nothing/chunks", "/%2e%2e%2fdocs"])
def test_an_unknown_collection_is_404(client, path):
    assert client.get(f"/v1/collections{path}").status_code == 404
    if "%" not in path:
        assert "served: docs" in error(client.get(f"/v1/collections{path}"))["message"]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": 0}, "query.limit"),
        ({"limit": 101}, "query.limit"),
        ({"limit": "x"}, "query.limit"),
        ({"after": "nobody"}, "after"),
        ({"after": "dogs", "document": "wild/all.md"}, "after"),
        ({"document": "nothing.md"}, "document"),
    ],
)
def test_a_list_that_cannot_be_had_is_400_and_names_the_field(client, query, param):
    answer = client.get("/v1/collections/docs/chunks", params=query)
    answer = client.get("/v1/collections/docs/chunks", params=query)
    assert (answer.status_code, error(answer)["param"]) == (400, param)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "body.query"),
        ({"query": "  "}, "query"),
        ({"query": 7}, "body.query"),
        ({"query": "a", "top_k": 0}, "top_k"),
        ({"query": "a", "method": "magic"}, "body.method"),
        ({"query": "a", "filter": {"type": "like"}}, "filter.type"),
        ({"query": "a", "rerank": True}, "rerank"),
        ({"query": "a", "collection": "docs"}, "body.collection"),
    ],
)
def test_a_search_that_cannot_be_done_is_400_and_names_the_field(client, body, param):
    answer = client.post("/v1/collections/docs/search", json=body)
    assert (answer.status_code, error(answer)["param"]) == (400, param)


def test_a_search_of_an_unknown_collection_is_404(client):
    assert client.post("/v1/collections/no/search", json={"query": "a"}).status_code == 404
