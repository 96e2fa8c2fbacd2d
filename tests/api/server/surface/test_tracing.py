"""The spans of a request: who is whose parent, and whose times are measured."""

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from api.server.guard import GuardedEngine
from api.server.settings import ServeConfig
from api.server.surface.draining import Drain
from api.server.surface.install import Surface, install_surface
from api.server.surface.keys import KeyRing
from api.server.surface.request import record_in_force
from api.server.surface.tracing import Tracing
from blend.report.stats import BlendStats, StageTimes, TokenCounts
from blend.vllm.request_params import KEY
from tests.support.engine_outputs import DELTA, Output, Part

PREFILL_MS = 60.0
STATS = BlendStats(
    counts=TokenCounts(reused_tokens=5),
    times=StageTimes(match_ms=1, load_ms=2, realign_ms=3, select_ms=4, recompute_ms=5),
)
PARENT = "4bf92f3577b34da6a3ce929d0e0e4736"


class Client:
    """As much of vLLM's engine client as answers one prompt, and takes its time for it."""

    errored = False

    async def generate(self, prompt, params, request_id):
        await asyncio.sleep(PREFILL_MS / 1e3)
        yield Output([1], [Part(0, [7])])
        yield Output([1], [Part(0, [8], "stop")], {KEY: STATS.to_json()})


@pytest.fixture
def spans() -> dict[str, ReadableSpan]:
    """Of one request, by name."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = FastAPI()
    tracing = Tracing(provider.get_tracer("kvblend"))
    install_surface(app, Surface(KeyRing(), ServeConfig(), Drain(1), tracing))
    engine = GuardedEngine(Client())

    @app.get("/answer")
    async def answer(request: Request) -> str:
        record = record_in_force.get()
        assert record is not None
        record.retrieved_ns = (record.begun_ns + 1, record.begun_ns + 2)
        async for _ in engine.generate("p", DELTA, "id"):
            pass
        return request.headers["traceparent"]

    told = TestClient(app).get("/answer", headers={"traceparent": f"00-{PARENT}-00f067aa0ba902b7-01"})
    found = {span.name: span for span in exporter.get_finished_spans()}
    assert told.json().split("-")[2] == f"{found['GET /answer'].context.span_id:016x}"  # what vLLM is told
    return found


def length_ms(span: ReadableSpan) -> float:
    assert span.start_time is not None and span.end_time is not None
    return (span.end_time - span.start_time) / 1e6


def test_a_request_is_a_tree_of_spans(spans):
    parents: dict[str, Any] = {name: span.parent and span.parent.span_id for name, span in spans.items()}
    root, blend = spans["GET /answer"].context.span_id, spans["blend"].context.span_id
    assert f"{spans['GET /answer'].context.trace_id:032x}" == PARENT
    assert {name for name, parent in parents.items() if parent == root} == {
        "retrieve",
        "match",
        "load",
        "blend",
        "suffix",
        "decode",
    }
    assert {name for name, parent in parents.items() if parent == blend} == {
        "realign",
        "select",
        "recompute",
    }


def test_lengths_are_true_and_what_was_not_seen_says_so(spans):
    for name in ("match", "load", "realign", "select", "recompute"):
        assert length_ms(spans[name]) == getattr(STATS.times, f"{name}_ms")
        assert spans[name].attributes["kvblend.start"] == "reconstructed"
    assert "kvblend.start" not in spans["decode"].attributes
    assert spans["realign"].start_time == spans["blend"].start_time
    assert spans["suffix"].start_time == spans["blend"].end_time
    assert spans["decode"].start_time == spans["suffix"].end_time
    assert spans["blend"].attributes["kvblend.reused_tokens"] == 5
    whole = spans["GET /answer"]
    assert whole.attributes["http.response.status_code"] == 200
    assert length_ms(whole) >= PREFILL_MS
