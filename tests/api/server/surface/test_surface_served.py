"""A real server with keys: who finds whose cache, what hostile requests get, and how it stops."""

import json
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.fuzzing import fuzz
from tests.support.malformed_requests import Attack, attacks
from tests.support.processes import wait_for
from tests.support.server_process import Running, started

pytestmark = pytest.mark.engine

ANN, BOB = "key-of-ann", "key-of-bob"
MAX_BODY_BYTES = 1 << 20
# Nobody who sends garbage can have the engine busy for long.
ENVIRONMENT = {"VLLM_MAX_N_SEQUENCES": "2"}
FLAGS = (
    "--collection",
    "docs",
    "--log-format",
    "json",
    "--drain-s",
    "25",
    "--max-body-bytes",
    str(MAX_BODY_BYTES),
    "--always-blend",
    "--allowed-origins",
    '["https://here.example"]',
)


@pytest.fixture(scope="module")
def guarded(store: Path) -> Iterator[Running]:
    """A server that asks for keys."""
    keys = store.parent / "keys"
    keys.write_text(f"ann:{ANN}\nbob:{BOB}\n")
    with started(store, *FLAGS, "--key-file", str(keys), environment=ENVIRONMENT) as server:
        yield server


@pytest.fixture(scope="module")
def model(guarded: Running) -> str:
    """The served model's name."""
    listed = httpx.get(f"{guarded.url}/v1/models", headers=bearer()).raise_for_status()
    name: str = listed.json()["data"][0]["id"]
    return name


def bearer(key: str = ANN) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def post(served: Running, path: str, body: dict[str, Any], key: str = ANN, **more: Any) -> httpx.Response:
    return httpx.post(f"{served.url}{path}", json=body, headers=bearer(key), timeout=120, **more)


def cached(served: Running, model: str, key: str, text: str, salt: str | None = None) -> int:
    """Tokens of a prompt that the engine found in its cache."""
    body = {"model": model, "prompt": text, "max_tokens": 1}
    answer = post(served, "/v1/completions", body | ({"cache_salt": salt} if salt else {}), key)
    assert answer.status_code == 200, answer.text
    found: int = answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
    return found


@pytest.mark.parametrize(
    "path", ["/v1/models", "/metrics", "/version", "/load", "/openapi.json", "/docs", "/tokenize", "/ping"]
)
def test_every_route_but_the_health_check_asks_for_a_key(guarded, path):
    assert httpx.get(f"{guarded.url}/health").status_code == 200
    refused = httpx.get(f"{guarded.url}{path}")
    assert refused.status_code == refused.json()["error"]["code"] == 401
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert httpx.get(f"{guarded.url}{path}", headers=bearer()).status_code in (200, 405)


def test_a_key_finds_its_own_cache_and_nobody_elses(guarded, model):
    text = "Prefix caching keeps the keys and values of a prompt for whoever asks next. " * 20
    assert cached(guarded, model, ANN, text) == 0
    assert (own := cached(guarded, model, ANN, text)) > 200
    assert cached(guarded, model, BOB, text) == 0
    assert cached(guarded, model, BOB, text) == own
    assert cached(guarded, model, ANN, text, "salt") == 0
    assert cached(guarded, model, BOB, text, "salt") == 0
    assert cached(guarded, model, BOB, text, "salt") == own


def test_blends_are_a_keys_own_too(guarded, model):
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "What is a KV cache?"}],
        "max_tokens": 1,
        "rag": {"collection": "docs", "top_k": 2},
    }
    reads = []
    for key in (ANN, ANN, BOB):
        answer = post(guarded, "/v1/chat/completions", body, key).json()
        assert answer["blend"]["fallback"] is None
        reads.append(answer["blend"]["realign_ms"])
    assert reads[0] > 0 and reads[1] == 0 and reads[2] > 0  # one that is found is not realigned


def test_a_browsers_preflight_needs_no_key_and_it_may_read_what_it_is_refused(guarded):
    asks = {
        "Origin": "https://here.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    url = f"{guarded.url}/v1/chat/completions"
    allowed = httpx.options(url, headers=asks)
    assert allowed.status_code == 200
    refused = httpx.post(url, headers={"Origin": "https://here.example"}, json={})
    assert refused.status_code == 401
    for answer in (allowed, refused):
        assert answer.headers["Access-Control-Allow-Origin"] == "https://here.example"
    assert httpx.options(url).status_code == 401


def test_a_request_is_one_line_of_the_log(guarded, model):
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Say swordfish."}],
        "max_tokens": 3,
    }
    answer = httpx.post(
        f"{guarded.url}/v1/chat/completions",
        json=body,
        headers=bearer() | {"X-Request-Id": "line-1"},
        timeout=60,
    )
    assert answer.headers["X-Request-Id"] == "line-1"
    assert answer.json()["id"] == "chatcmpl-line-1"
    deadline = time.monotonic() + 60  # the line is written once the answer has been sent
    while not (lines := lines_with(guarded.log, '"line-1"')):
        assert time.monotonic() < deadline, "no line of the log"
        time.sleep(0.05)
    [line] = lines
    told = json.loads(line)
    assert told["prompt_tokens"] == answer.json()["usage"]["prompt_tokens"]
    assert told["completion_tokens"] == answer.json()["usage"]["completion_tokens"]
    assert told["blend"]["fallback"] == "no known chunk in the prompt"
    assert 0 < told["ttft_ms"] <= told["ms"]
    text = guarded.log.read_text()
    assert "swordfish" not in text and ANN not in text


def lines_with(log: Path, text: str) -> list[str]:
    """Whole lines that hold a text."""
    lines = log.read_text().splitlines(keepends=True)
    return [line for line in lines if text in line and line.endswith("\n")]


def attack(client: httpx.Client, one: Attack) -> str | None:
    """What is wrong with the answer to an attack, or None."""
    headers = {"Content-Type": one.content_type} if one.content_type else {}
    answer = client.post(one.path, content=one.body, headers=headers)
    try:
        error = answer.json()["error"]
        is_in_shape = {"message", "type", "param", "code"} <= set(error) and error[
            "code"
        ] == answer.status_code
    except (ValueError, KeyError, TypeError):
        is_in_shape = False
    if 400 <= answer.status_code < 500 and is_in_shape:
        return None
    return f"{one.path} {one.name}: {answer.status_code} {answer.text[:200]}"


def test_two_hundred_hostile_bodies_are_their_senders_fault(guarded, model):
    hostile = list(attacks(model, MAX_BODY_BYTES))
    assert len(hostile) >= 200
    with httpx.Client(base_url=guarded.url, headers=bearer(), timeout=60) as client:
        wrong = [found for one in hostile if (found := attack(client, one))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("seconds", "cases"), [(15, 150), pytest.param(60, 600, marks=pytest.mark.exhaustive)]
)
def test_what_the_document_says_is_what_the_server_does(guarded, seconds, cases):
    outcome = fuzz(guarded.url, bearer(), max_cases=cases, seconds=seconds)
    assert outcome.cases >= 50
    assert not outcome.failures, "\n\n".join(outcome.failures)


def metric(served: Running, name: str) -> float:
    lines = httpx.get(f"{served.url}/metrics", headers=bearer()).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name}{{"))


def busy(served: Running) -> float:
    return metric(served, "vllm:num_requests_running") + metric(served, "vllm:num_requests_waiting")


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_while_its_context_is_blended_frees_the_engine(guarded, model, stream):
    body = {
        "model": model,
        "messages": [{"role": "user", "content": f"How long is a page? {stream}"}],
        "stream": stream,
        "max_tokens": 1000,
        "ignore_eos": True,
        "rag": {"collection": "docs", "top_k": 12, "recompute_ratio": 0.95},
    }
    before = metric(guarded, "vllm:generation_tokens_total")
    leave_soon(guarded, body)
    wait_for(lambda: busy(guarded) == 0)
    assert metric(guarded, "vllm:generation_tokens_total") - before < body["max_tokens"]
    assert metric(guarded, "vllm:kv_cache_usage_perc") == 0
    # The next one is answered: nothing of the blend that was left is in its way.
    again = post(guarded, "/v1/completions", {"model": model, "prompt": "a", "max_tokens": 1})
    assert again.status_code == 200


def leave_soon(served: Running, body: dict[str, Any]) -> None:
    """Leaves as soon as the engine has the request."""
    url = httpx.URL(served.url)
    request = httpx.Request("POST", url.join("/v1/chat/completions"), json=body, headers=bearer())
    head = [
        f"POST {request.url.path} HTTP/1.1",
        *(f"{name}: {value}" for name, value in request.headers.items()),
    ]
    with socket.create_connection((url.host, url.port or 80), timeout=60) as client:
        client.sendall("\r\n".join([*head, "", ""]).encode() + request.content)
        wait_for(lambda: busy(served) > 0)


def test_at_the_end_a_stream_is_finished_and_nothing_is_begun(guarded, model):
    body = {"model": model, "prompt": "Count upwards from one.", "max_tokens": 20, "ignore_eos": True}
    begun_s = time.perf_counter()
    assert post(guarded, "/v1/completions", body).status_code == 200
    token_s = (time.perf_counter() - begun_s) / body["max_tokens"]
    # As many as take this machine some seconds: what is refused comes while they are written.
    body |= {"stream": True, "max_tokens": min(1500, int(4 / token_s))}
    url = f"{guarded.url}/v1/completions"
    with (
        httpx.stream("POST", url, json=body, headers=bearer(), timeout=60) as stream,
        ThreadPoolExecutor(1) as others,
    ):
        lines = stream.iter_lines()
        next(lines)
        one = {"model": model, "prompt": "a", "max_tokens": 1}
        guarded.process.send_signal(signal.SIGTERM)
        while (refused := others.submit(post, guarded, "/v1/completions", one).result()).status_code == 200:
            pass  # the signal is on its way
        rest = list(lines)
    assert refused.status_code == refused.json()["error"]["code"] == 503
    assert int(refused.headers["Retry-After"]) > 0
    assert "[DONE]" in rest[-1] or "[DONE]" in rest[-2]
    assert not any('"error"' in line for line in rest)
    assert guarded.process.wait(timeout=60) == 0
