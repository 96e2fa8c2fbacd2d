"""A real server as operators run it: behind TLS and a root path, traced, and stopped amid its work."""

import json
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from blend.settings.defaults import DEFAULT_MODEL
from tests.support.certificate import Certificate, certificate_in
from tests.support.otlp import Receiver, receiving
from tests.support.server_process import ROOT, Running, started
from tests.support.shared_server import pass_on_verdicts

pytestmark = [pytest.mark.engine, pytest.mark.slow]

ORIGIN = "https://here.example"
DRAIN_S = 6
SPARE_S = 20  # the engine's processes end on a machine that others use as well
PAGES = sorted((ROOT / "demo" / "docs").glob("*.md"))
FLAGS = ("--model", DEFAULT_MODEL, "--always-blend")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate_in(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as listening:
        yield listening


@pytest.fixture(scope="module")
def own_store(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Empty, but for the verdict on the model."""
    own = tmp_path_factory.mktemp("operated") / "store"
    pass_on_verdicts(store, own)
    return own


@pytest.fixture(scope="module")
def server(own_store: Path, certificate: Certificate, receiver: Receiver) -> Iterator[Running]:
    tls = ("--ssl-certfile", str(certificate.certificate), "--ssl-keyfile", str(certificate.key))
    ours = ("--root-path", "/llm", "--allowed-origins", json.dumps([ORIGIN]), "--drain-s", str(DRAIN_S))
    traced = ("--otlp-traces-endpoint", receiver.url)
    environment = {"OTEL_BSP_SCHEDULE_DELAY": "200"}
    flags = (*FLAGS, *tls, *ours, *traced)
    with started(own_store, *flags, environment=environment, trusted=certificate.trusted) as running:
        yield running


@pytest.fixture(scope="module")
def http(server: Running, certificate: Certificate) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, verify=certificate.trusted, timeout=120) as client:
        yield client


def follow(http: httpx.Client, job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A job as its events tell it."""
    url = f"/v1/collections/{job['collection']}/jobs/{job['id']}"
    with http.stream("GET", url, headers={"Accept": "text/event-stream"}) as events:
        for line in events.iter_lines():
            if line.startswith("data:"):
                yield json.loads(line.removeprefix("data:"))


def put(http: httpx.Client, path: str, text: str) -> dict[str, Any]:
    answer = http.put(f"/v1/collections/notes/documents/{path}", content=text.encode())
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


@pytest.fixture(scope="module")
def collection(http: httpx.Client) -> str:
    """Of one page in several chunks: the first one is exact, and others are reused."""
    assert http.post("/v1/collections", json={"name": "notes"}).status_code == 201
    *_, last = follow(http, put(http, "page.md", PAGES[0].read_text()[:5000]))
    assert last["status"] == "completed"
    return "notes"


def ask(http: httpx.Client, model: str, **more: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "What is a sink?"}], "max_tokens": 8}
    headers = more.pop("headers", {})
    return http.post(more.pop("path", "/v1/chat/completions"), json=body | more, headers=headers)


@pytest.fixture(scope="module")
def model(http: httpx.Client) -> str:
    name: str = http.get("/v1/models").json()["data"][0]["id"]
    return name


def test_it_speaks_tls_from_its_start_on_and_nothing_else(server, http, model):
    assert server.statuses[0] == 503 and server.statuses[-1] == 200
    assert ask(http, model).status_code == 200
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{server.url.replace('https', 'http')}/health", timeout=10)
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{server.url}/health", timeout=10)


@pytest.mark.parametrize("root", ["", "/llm"])
def test_it_is_found_under_its_root_path_whether_the_proxy_cuts_that_off_or_not(http, model, root):
    document = http.get(f"{root}/openapi.json").json()
    assert document["servers"] == [{"url": "/llm"}]
    entered = http.get(f"{root}/demo")
    assert entered.status_code == 307
    assert entered.headers["Location"] == "demo/"
    assert "<title>" in http.get(f"{root}/demo/").text
    assert http.get(f"{root}/demo/config.json").json()["selectors"]
    assert ask(http, model, path=f"{root}/v1/chat/completions").status_code == 200
    assert http.get(f"{root}/v1/collections/none").status_code == 404


def test_a_page_of_an_allowed_origin_may_ask_and_one_of_another_may_not(http):
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    allowed = http.options("/v1/chat/completions", headers={"Origin": ORIGIN, **asks})
    assert allowed.status_code == 200
    assert allowed.headers["Access-Control-Allow-Origin"] == ORIGIN
    other = http.options("/v1/chat/completions", headers={"Origin": "https://there.example", **asks})
    assert other.status_code == 400
    assert "Access-Control-Allow-Origin" not in other.headers


def test_the_spans_of_a_request_arrive_where_they_were_sent(http, model, collection, receiver):
    trace_id, caller = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    rag = {"collection": collection, "recompute_ratio": 0.2, "top_k": 2}
    begun_ns = time.time_ns()
    answer = ask(http, model, rag=rag, headers={"traceparent": f"00-{trace_id}-{caller}-01"})
    ended_ns = time.time_ns()
    assert answer.json()["blend"]["fallback"] is None
    root = "POST /v1/chat/completions"
    outer = {"retrieve", "match", "load", "blend", "suffix", "decode", "llm_request"}
    inner = {"realign", "select", "recompute"}
    spans = receiver.trace(trace_id, {root, *outer, *inner}, within_s=60)
    whole, blend = spans[root], spans["blend"]
    assert whole.parent_span_id.hex() == caller
    assert {spans[name].parent_span_id for name in outer} == {whole.span_id}
    assert {spans[name].parent_span_id for name in inner} == {blend.span_id}
    told = answer.json()["blend"]
    for name in inner:
        span = spans[name]
        length_ms = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
        assert length_ms == pytest.approx(told[f"{name}_ms"], abs=0.01)
        assert blend.start_time_unix_nano <= span.start_time_unix_nano
        assert span.end_time_unix_nano <= blend.end_time_unix_nano
    for name in (root, "retrieve", "decode"):
        assert begun_ns <= spans[name].start_time_unix_nano <= spans[name].end_time_unix_nano
    # The whole ends when the server is done with it, which may be a moment after the client has its answer.
    assert spans["retrieve"].end_time_unix_nano <= ended_ns
    assert spans["decode"].end_time_unix_nano <= whole.end_time_unix_nano
    order = [spans[name] for name in ("retrieve", "match", "load", "blend", "suffix", "decode")]
    for early, late in pairwise(order):
        assert early.end_time_unix_nano <= late.start_time_unix_nano
    counts = {one.key: one.value.int_value for one in blend.attributes}
    assert counts["kvblend.reused_tokens"] == told["reused_tokens"] > 0


class Follower(threading.Thread):
    """Reads a job's events to their end."""

    def __init__(self, http: httpx.Client, job: dict[str, Any]) -> None:
        super().__init__()
        self._http, self._job = http, job
        self.seen: list[dict[str, Any]] = []
        self.has_begun = threading.Event()

    def run(self) -> None:
        for event in follow(self._http, self._job):
            self.seen.append(event)
            if event.get("chunks_done"):
                self.has_begun.set()


@dataclass(frozen=True)
class Stopped:
    """A server that was stopped while it ingested, and what a client saw of the job."""

    status: int
    job: dict[str, Any]
    events: list[dict[str, Any]]


@pytest.fixture(scope="module")
def stopped(server: Running, http: httpx.Client, collection: str) -> Stopped:
    """Ends the server: tests that use it stand last."""
    job = put(http, "long.md", "\n\n".join(page.read_text() for page in PAGES[1:4]))
    follower = Follower(http, job)
    follower.start()
    assert follower.has_begun.wait(120), follower.seen
    server.process.send_signal(signal.SIGTERM)
    begun_s = time.monotonic()
    status = server.process.wait(timeout=DRAIN_S + SPARE_S)
    print(f"\nended {time.monotonic() - begun_s:.1f} s after SIGTERM, drain {DRAIN_S} s")
    follower.join()
    return Stopped(status, job, follower.seen)


def test_a_server_that_is_stopped_amid_an_ingestion_ends_in_time_and_tells_who_listens(stopped):
    assert stopped.status == 0
    *before, last = stopped.events
    assert "shutting down" in last["error"]["message"]  # the events of a job that did not end in time
    assert 0 < before[-1]["chunks_done"] < before[-1]["chunks_total"]


@pytest.mark.exhaustive  # another start of the engine; ingest/test_ingest.py resumes without one in every run
def test_the_next_server_goes_on_with_the_ingestion(stopped, own_store):
    reached = stopped.events[-2]
    with started(own_store, *FLAGS) as again, httpx.Client(base_url=again.url, timeout=120) as client:
        *_, ended = follow(client, stopped.job)
        assert (ended["id"], ended["status"]) == (stopped.job["id"], "completed")
        assert ended["chunks_total"] <= reached["chunks_total"] - reached["chunks_done"]
        asked = {"query": "What does paged attention do?", "top_k": 50}
        found = client.post("/v1/collections/notes/search", json=asked).json()["data"]
        assert "long.md" in {hit["source"] for hit in found}
