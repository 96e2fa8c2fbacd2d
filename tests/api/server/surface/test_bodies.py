"""Bodies that are too large or cannot be read are refused before any route sees them."""

import json
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI, Request, UploadFile
from httpx import ASGITransport

from api.server.settings import ServeConfig
from api.server.surface.bodies import check_json
from api.server.surface.draining import Drain
from api.server.surface.install import Surface, install_surface
from api.server.surface.keys import KeyRing
from blend.errors import RequestError

LIMIT = 1000


def make_app() -> FastAPI:
    app = FastAPI()
    limits = ServeConfig(max_body_bytes=LIMIT, max_upload_bytes=4 * LIMIT, max_json_depth=5)
    install_surface(app, Surface(KeyRing(), limits, Drain(1)))

    @app.post("/json")
    async def take_json(request: Request) -> int:
        return len(await request.body())

    @app.post("/form")
    async def take_form(file: UploadFile) -> int:
        return len(await file.read())

    @app.put("/v1/collections/{name}/documents/{path}")
    async def take_document(request: Request) -> int:
        return sum([len(part) async for part in request.stream()])

    return app


@pytest_asyncio.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=ASGITransport(make_app()), base_url="http://here") as client:
        yield client


async def pieces(number: int) -> AsyncIterator[bytes]:
    """A body without a length."""
    for _ in range(number):
        yield b" " * 100


def body(size: int) -> bytes:
    return json.dumps({"a": "x" * (size - len('{"a": ""}'))}).encode()


@pytest.mark.asyncio
async def test_a_body_is_taken_up_to_its_limit(client):
    assert (await client.post("/json", content=body(LIMIT))).json() == LIMIT
    for too_large in (body(LIMIT + 1), pieces(11)):
        refused = await client.post("/json", content=too_large)
        assert refused.status_code == refused.json()["error"]["code"] == 413
        assert "--max-body-bytes" in refused.json()["error"]["message"]


@pytest.mark.asyncio
async def test_uploads_have_a_limit_of_their_own(client):
    path = "/v1/collections/docs/documents/a.json"
    assert (await client.put(path, content=pieces(40))).json() == 4 * LIMIT
    assert (await client.post("/form", files={"file": b"x" * 3 * LIMIT})).json() == 3 * LIMIT
    for refused in (
        await client.put(path, content=pieces(41)),
        await client.put(path, content=b"x" * 4001),
        await client.post("/form", files={"file": b"x" * 4 * LIMIT}),
    ):
        assert refused.status_code == 413
        assert "--max-upload-bytes" in refused.json()["error"]["message"]


@pytest.mark.asyncio
async def test_a_document_may_be_any_bytes(client):
    path = "/v1/collections/docs/documents/a.json"
    headers = {"Content-Type": "application/json"}
    assert (await client.put(path, content=b"\xff{", headers=headers)).json() == 2


def hostile() -> Iterator[tuple[bytes, str]]:
    yield b"{", "expected JSON"
    yield b'{"a": 1} x', "expected JSON"
    yield b"[" * 6 + b"]" * 6, "nested 6 deep"
    yield b"[" * 100_000, "nested"
    yield b'{"a":' * 6 + b"1" + b"}" * 6, "nested 6 deep"
    yield b'{"a": NaN}', "got NaN"
    yield b'{"a": -Infinity}', "got -Infinity"
    yield b'{"a": 1e999}', "got 1e999"
    yield b'{"a": ' + b"9" * 5000 + b"}", "expected JSON"
    yield b'{"a": "\\ud800"}', "surrogate"
    yield b'{"\\uDFFF": 1}', "surrogate"
    yield b'{"a": "\xff"}', "not UTF-8 at offset 7"
    yield '{"a": 1}'.encode("utf-16"), "UTF-8"
    yield b"\xef\xbb\xbf{}", "expected JSON"
    yield b'{"a": "' + b'\\"' * 500_000, "expected JSON"  # quadratic, if an unfinished string is tried anew
    yield b"[]", "got an array, expected a JSON object"
    yield b"7", "got a number"
    yield b"true", "got true or false"
    yield b"null", "got null"
    yield b'"{}"', "got a string"


@pytest.mark.parametrize(("body", "message"), list(hostile()))
def test_json_that_a_route_would_stumble_over(body, message):
    with pytest.raises(RequestError, match=message):
        check_json(body, max_depth=5)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"a": "[[[[[[["}',
        b'{"a\\"[[[[[[": [[[[1]]]]}',
        b'{"a": "\\ud83d\\ude00 \\\\ud800"}',
        b'{"a": 1e308}',
    ],
)
def test_json_that_only_looks_odd_passes(body):
    check_json(body, max_depth=5)
