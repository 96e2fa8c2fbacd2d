"""Whatever goes wrong, and in whatever shape a route says it, clients get OpenAI's."""

import json
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient
from pydantic import BaseModel, model_validator
from starlette.responses import JSONResponse, PlainTextResponse, Response

from api.server.settings import ServeConfig
from api.server.surface.draining import Drain
from api.server.surface.error_shape import in_shape
from api.server.surface.install import Surface, install_surface
from api.server.surface.keys import KeyRing


class Careless(BaseModel):
    """A model whose validator trusts its input, as some of vLLM's do."""

    @model_validator(mode="before")
    @classmethod
    def trust(cls, data: Any) -> Any:
        return data["messages"][0]


def make_client() -> TestClient:
    app = FastAPI()
    install_surface(app, Surface(KeyRing(), ServeConfig(), Drain(1)))

    @app.post("/careless")
    async def careless(body: Careless) -> None: ...

    @app.get("/broken")
    async def broken() -> None:
        raise KeyError("/srv/secret")

    @app.get("/http")
    async def http() -> None:
        raise HTTPException(418, detail={"reason": "teapot"})

    @app.get("/{what}")
    async def say(what: str) -> Response:
        answers = {
            "text": PlainTextResponse("no", 400),
            "string": JSONResponse({"error": "Unauthorized"}, 401),
            "empty": Response(status_code=503),
            "theirs": JSONResponse({"type": "error", "error": {"type": "t", "message": "m"}}, 400),
            "422": JSONResponse({"error": {"message": "m", "type": "t", "param": "p", "code": 422}}, 422),
            "strange": Response(b"\xff", status_code=499),
        }
        return answers[what]

    return TestClient(app)


def error(answer: Any) -> dict[str, Any]:
    found: dict[str, Any] = answer.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    assert found["code"] == answer.status_code
    assert answer.headers["Content-Length"] == str(len(answer.content))
    return found


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/no/where", 404, "Not Found"),
        ("POST", "/http", 405, "Method Not Allowed"),
        ("GET", "/http", 418, '{"reason": "teapot"}'),
        ("GET", "/text", 400, "no"),
        ("GET", "/string", 401, "Unauthorized"),
        ("GET", "/empty", 503, "Service Unavailable"),
        ("GET", "/422", 400, "m"),
        ("GET", "/strange", 400, "\ufffd"),
        ("GET", "/broken", 500, "the server failed at this request; its log says why"),
    ],
)
def test_every_error_has_the_shape(method, path, status, message):
    answer = make_client().request(method, path)
    assert answer.status_code == status
    assert error(answer)["message"] == message
    assert answer.headers["X-Request-Id"]


@pytest.mark.parametrize("body", [{}, [], {"messages": []}, {"messages": {"a": 1}}, "text", None])
def test_a_validator_that_trusts_its_input_does_not_make_it_the_servers_fault(body):
    answer = make_client().post("/careless", json=body)
    assert answer.status_code == 400, answer.text
    assert error(answer)["message"]


def test_what_others_look_for_in_an_error_stays():
    answer = make_client().get("/theirs")
    assert answer.json()["type"] == "error"
    assert error(answer)["message"] == "m"


def test_a_complete_error_passes_as_it_is():
    body = json.dumps({"error": {"message": "m", "type": "t", "param": None, "code": 400}}, indent=3).encode()
    assert in_shape(400, body) == (400, body)
