"""The routes of managed collections: what is answered to what, and errors in OpenAI's shape."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from api.server.errors import install_handlers
from api.server.ingest.routes import ingest_router
from api.server.settings import DEFAULTS, ServeConfig
from tests.support.ingesting_server import IngestingServer, ingesting_server

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def routes(
    store: Path, settings: ServeConfig = DEFAULTS
) -> AsyncIterator[tuple[httpx.AsyncClient, IngestingServer]]:
    async with ingesting_server(store, settings=settings) as server:
        app = FastAPI()
        install_handlers(app)
        app.include_router(ingest_router(server.ingest))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test/v1") as client:
            yield client, server


async def test_a_collection_comes_is_filled_and_goes(tmp_path):
    async with routes(tmp_path) as (client, server):
        made = await client.post("/collections", json={"name": "pets"})
        assert (made.status_code, made.json()["name"]) == (201, "pets")
        assert (await client.post("/collections", json={"name": "pets"})).status_code == 409
        url = "/collections/pets/documents/a/cats and more.md"
        put = await client.put(url, content=b"cats sleep", params={"metadata": '{"lang": "en"}'})
        assert put.status_code == 202
        job = put.json()
        assert job["object"] == "collection.job" and job["collection"] == "pets"
        assert job["documents"] == {"a/cats and more.md": "in_progress"}
        await server.ingest.finished(job["id"])
        job = (await client.get(f"/collections/pets/jobs/{job['id']}")).json()
        assert job["status"] == "completed" and job["documents"] == {"a/cats and more.md": "completed"}
        assert [one["id"] for one in (await client.get("/collections/pets/jobs")).json()["data"]] == [
            job["id"]
        ]
        dropped = await client.delete(url)
        assert dropped.status_code == 202
        await server.ingest.finished(dropped.json()["id"])
        assert (await client.delete(url)).status_code == 404
        gone = await client.delete("/collections/pets")
        assert gone.json() == {"object": "collection.deleted", "name": "pets", "deleted": True}
        assert (await client.delete("/collections/pets")).status_code == 404


async def test_a_job_is_told_as_events_until_it_ends(tmp_path):
    async with routes(tmp_path) as (client, server):
        await client.post("/collections", json={"name": "pets"})
        server.engine.may_compute.clear()
        job = (await client.put("/collections/pets/documents/cats.md", content=b"cats sleep")).json()["id"]
        server.engine.may_compute.set()
        answer = await client.get(f"/collections/pets/jobs/{job}", headers={"Accept": "text/event-stream"})
        assert answer.headers["content-type"].startswith("text/event-stream")
        blocks = [block for block in answer.text.replace("\r\n", "\n").split("\n\n") if "data:" in block]
        events = [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]
        assert events[-1]["event"] == "job.completed"
        assert {event["event"] for event in events} <= {"job.queued", "job.running", "job.completed"}
        states = [json.loads(event["data"]) for event in events]
        assert states[-1]["documents"] == {"cats.md": "completed"}
        assert [state["chunks_done"] for state in states] == sorted(state["chunks_done"] for state in states)
        assert states[-1]["chunks_done"] == states[-1]["chunks_total"] == 1


@pytest.mark.parametrize(
    ("method", "url", "options", "status"),
    [
        ("POST", "", {"json": {"name": "../x"}}, 400),
        ("PUT", "/pets/documents/%2e%2e%2fx", {"content": b"x"}, 400),
        ("PUT", "/pets/documents/.x", {"content": b"x"}, 400),
        ("PUT", "/pets/documents/x.md", {"content": b"x", "params": {"metadata": "{"}}, 400),
        ("PUT", "/pets/documents/x.md", {"content": b"x", "params": {"metadata": "[1]"}}, 400),
        ("PUT", "/pets/documents/x.md", {"content": b"x", "params": {"metadata": '{"a": NaN}'}}, 400),
        ("PUT", "/pets/documents/x.md", {"content": b"x", "params": {"metadata": "[" * 9999}}, 400),
        ("PUT", "/pets/documents/x.md", {"content": b"x" * 101}, 413),
        ("PUT", "/none/documents/x.md", {"content": b"x"}, 404),
        ("DELETE", "/pets/documents/x.md", {}, 404),
        ("DELETE", "/pets/documents/%00", {}, 400),
        ("GET", "/pets/jobs/none", {}, 404),
        ("GET", "/none/jobs", {}, 404),
    ],
)
async def test_what_cannot_be_done_is_said_in_openais_shape(tmp_path, method, url, options, status):
    async with routes(tmp_path, ServeConfig(max_document_bytes=100)) as (client, _):
        await client.post("/collections", json={"name": "pets"})
        answer = await client.request(method, f"/collections{url}", **options)
        assert answer.status_code == status, answer.text
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


async def test_a_job_of_another_collection_is_not_shown(tmp_path):
    async with routes(tmp_path) as (client, _):
        for name in ("pets", "other"):
            await client.post("/collections", json={"name": name})
        job = (await client.put("/collections/pets/documents/x.md", content=b"text")).json()["id"]
        assert (await client.get(f"/collections/other/jobs/{job}")).status_code == 404
