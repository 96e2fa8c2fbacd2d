"""Each request leaves one line with its figures, and neither what was asked nor who asked by which key."""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from api.server.guard import GuardedEngine
from api.server.settings import ServeConfig
from api.server.surface.draining import Drain
from api.server.surface.install import Surface, install_surface
from api.server.surface.keys import KeyRing, make_key
from api.server.surface.request_log import OURS, JsonLines, set_up_log
from blend.report.stats import BlendStats, TokenCounts
from blend.vllm.request_params import KEY
from tests.support.engine_outputs import DELTA, Output, Part

STATS = BlendStats(counts=TokenCounts(exact_tokens=1, reused_tokens=20, recomputed_tokens=3, cold_tokens=4))


class Client:
    """As much of vLLM's engine client as answers one prompt in two steps."""

    errored = False

    async def generate(self, prompt, params, request_id):
        yield Output([1, 2, 3], [Part(0, [7])])
        yield Output([1, 2, 3], [Part(0, [8, 9], "stop")], {KEY: STATS.to_json()})


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.delenv("KVBLEND_API_KEYS", raising=False)
    app = FastAPI()
    install_surface(app, Surface(KeyRing(secrets=["s3cret"]), ServeConfig(), Drain(1)))
    engine = GuardedEngine(Client())

    @app.post("/v1/answers/{name}")
    async def answer(request: Request) -> str:
        async for _ in engine.generate("the prompt", DELTA, "id"):
            pass
        return request.headers["X-Request-Id"]

    return TestClient(app)


def lines(log_format: str, capsys: pytest.CaptureFixture[str], act: Callable[[], Any]) -> list[str]:
    set_up_log(log_format)
    try:
        act()
        return capsys.readouterr().err.splitlines()
    finally:
        for name in OURS:
            logging.getLogger(name).handlers.clear()
            logging.getLogger(name).propagate = True


def ask(client: TestClient, request_id: str = "job-7", key: str = "s3cret") -> Any:
    headers = {"Authorization": f"Bearer {key}", "X-Request-Id": request_id}
    return client.post("/v1/answers/private.txt?q=secret", json={"prompt": "the prompt"}, headers=headers)


def test_the_figures_as_json(client, capsys):
    [line] = lines("json", capsys, lambda: ask(client))
    told = json.loads(line)
    assert told["request_id"] == "job-7"
    assert told["namespace"] == make_key("s3cret").namespace
    assert (told["method"], told["route"], told["status"]) == ("POST", "/v1/answers/{name}", 200)
    assert (told["prompt_tokens"], told["completion_tokens"]) == (3, 3)
    assert 0 <= told["ttft_ms"] <= told["ms"]
    assert told["blend"] == {"exact": 1, "reused": 20, "recomputed": 3, "cold": 4, "fallback": None}
    assert not any(word in line for word in ("s3cret", "the prompt", "private", "secret"))


def test_the_figures_for_people(client, capsys):
    [line] = lines("text", capsys, lambda: ask(client))
    assert "POST /v1/answers/{name} 200 " in line and "3 + 3 tokens" in line and "reused 20" in line
    assert "s3cret" not in line


def test_refused_requests_are_told_too(client, capsys):
    [line] = lines("json", capsys, lambda: ask(client, key="wrong"))
    told = json.loads(line)
    assert (told["status"], told["blend"], told["ttft_ms"]) == (401, None, None)
    assert "wrong" not in line


def test_a_client_names_its_request_where_the_name_can_stand_in_a_log(client):
    answer = ask(client)
    assert answer.headers["X-Request-Id"] == answer.json() == "job-7"
    for odd in ("two words", "x" * 129, "a\tb", "", 'a"b', "\u00e9"):
        answer = ask(client, odd.encode("latin-1"))
        assert len(answer.headers["X-Request-Id"]) == 32
        assert answer.json() == answer.headers["X-Request-Id"]


def test_other_records_are_lines_of_json_too():
    record = logging.LogRecord("a", logging.WARNING, "f", 1, "got %s\nand more", ("x",), None)
    told = json.loads(JsonLines().format(record))
    assert (told["level"], told["logger"], told["message"]) == ("WARNING", "a", "got x\nand more")
