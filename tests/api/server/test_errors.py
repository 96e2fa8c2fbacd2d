"""Every error of ours becomes one body and one status."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.server.errors import FieldError, NotThere, error_body, install_handlers
from blend.errors import BlendError, EngineNotReady, ModelError, RequestError, StoreFull
from retriever.errors import CollectionError, EmbedderError, QueryError, UnknownCollection


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RequestError("got an empty question"), 400),
        (FieldError("rag.top_k: got 0", "rag.top_k"), 400),
        (NotThere("no file x"), 404),
        (QueryError("got an empty query"), 400),
        (UnknownCollection("no collection x"), 404),
        (EngineNotReady("starting"), 503),
        (ModelError("m"), 500),
        (StoreFull("s"), 500),
        (BlendError("b"), 500),
        (CollectionError("c"), 500),
        (EmbedderError("e"), 503),
    ],
)
def test_a_route_that_raises_answers_in_openais_shape(error, status):
    app = FastAPI()
    install_handlers(app)

    @app.get("/")
    async def route() -> None:
        raise error

    answer = TestClient(app, raise_server_exceptions=False).get("/")
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.json()["error"]["message"] == str(error)
    assert answer.json()["error"]["code"] == status


def test_the_field_that_is_wrong_is_named():
    assert error_body(FieldError("rag.top_k: got 0", "rag.top_k"))["error"]["param"] == "rag.top_k"
