"""A server that stops: what is under way finishes, what is new is refused, what takes too long is told so."""

import asyncio
import json
from collections.abc import Callable

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from httpx import ASGITransport

from api.server.guard import GuardedEngine
from api.server.settings import ServeConfig
from api.server.surface.draining import Drain
from api.server.surface.install import Surface, install_surface
from api.server.surface.keys import KeyRing


class Client:
    """As much of vLLM's engine client as is shut down."""

    stopped_with: float | None = None

    def shutdown(self, timeout):
        self.stopped_with = timeout


def make(
    limit_s: float, stop: Callable[[], None] | None = None
) -> tuple[httpx.AsyncClient, GuardedEngine, Client, asyncio.Event]:
    app, client, drain, go_on, begun = FastAPI(), Client(), Drain(limit_s), asyncio.Event(), []
    install_surface(app, Surface(KeyRing(), ServeConfig(), drain))

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def events():
            yield "data: 1\n\n"
            begun.append("/stream")
            await go_on.wait()
            yield "data: 2\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    @app.get("/whole")
    async def whole() -> int:
        begun.append("/whole")
        await go_on.wait()
        return 1

    @app.get("/begun")
    async def num_begun() -> int:
        return len(begun)

    http = httpx.AsyncClient(transport=ASGITransport(app), base_url="http://here")
    return http, GuardedEngine(client, drain, stop), client, go_on


async def begin(http: httpx.AsyncClient, *paths: str) -> list[asyncio.Task[httpx.Response]]:
    """Requests that are under way."""
    before = (await http.get("/begun")).json()
    tasks = [asyncio.create_task(http.get(path)) for path in paths]
    while (await http.get("/begun")).json() < before + len(paths):
        await asyncio.sleep(0)
    return tasks


async def refused(http: httpx.AsyncClient) -> httpx.Response:
    """What a request gets that comes once the server has begun to stop."""
    while (answer := await http.get("/begun")).status_code == 200:
        await asyncio.sleep(0.01)
    return answer


@pytest.mark.asyncio
async def test_what_was_begun_is_finished_and_nothing_is_begun():
    http, engine, client, go_on = make(limit_s=10)
    tasks = await begin(http, "/stream", "/whole")
    stopping = asyncio.create_task(asyncio.to_thread(engine.shutdown, 0))
    answer = await refused(http)
    assert answer.status_code == answer.json()["error"]["code"] == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert client.stopped_with is None
    go_on.set()
    stream, whole = await asyncio.gather(*tasks)
    assert stream.text == "data: 1\n\ndata: 2\n\n" and whole.json() == 1
    await stopping
    assert client.stopped_with == 0


@pytest.mark.asyncio
async def test_what_takes_too_long_is_cut_off_with_an_error():
    http, engine, client, _ = make(limit_s=0.1)
    tasks = await begin(http, "/stream", "/whole")
    await asyncio.to_thread(engine.shutdown, 0)
    stream, whole = await asyncio.gather(*tasks)
    first, last = stream.text.strip().split("\n\n")
    assert first == "data: 1"
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == 503
    assert whole.status_code == 503
    assert client.stopped_with == 0


@pytest.mark.asyncio
async def test_what_else_uses_the_engine_ends_between_the_requests_and_the_engine():
    seen: list[tuple[bool, float | None]] = []
    http, engine, client, go_on = make(10, lambda: seen.append((go_on.is_set(), client.stopped_with)))
    (task,) = await begin(http, "/whole")
    stopping = asyncio.create_task(asyncio.to_thread(engine.shutdown, 0))
    await refused(http)
    assert not seen
    go_on.set()
    await asyncio.gather(task, stopping)
    assert seen == [(True, None)] and client.stopped_with == 0


@pytest.mark.asyncio
async def test_the_engine_is_shut_down_whatever_becomes_of_what_else_uses_it():
    def fail() -> None:
        raise OSError("no space left on device")

    _, engine, client, _ = make(1000, fail)
    with pytest.raises(OSError, match="no space"):
        await asyncio.to_thread(engine.shutdown, 3)
    assert client.stopped_with == 3


@pytest.mark.asyncio
async def test_an_idle_server_stops_at_once():
    _, engine, client, _ = make(limit_s=1000)
    await asyncio.to_thread(engine.shutdown, 3)
    assert client.stopped_with == 3
