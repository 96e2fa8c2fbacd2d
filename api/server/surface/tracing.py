"""A request's trace: retrieval, the blend's stages, the suffix and decoding, as spans under one of its own.

The times of a request's arrival, first token and end are measured here. The blend's stages run in other
processes, which report durations only: their spans have true lengths, are placed end to end from the start of
the engine's call, and carry `kvblend.start` = "reconstructed".
"""

from collections.abc import Iterator, Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagate import extract, inject
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from starlette.datastructures import MutableHeaders

from api.server.surface.request import EngineCall, RequestRecord
from blend.report.stats import BlendStats

_BLEND = ("realign", "select", "recompute", "write")
_RECONSTRUCTED = {"kvblend.start": "reconstructed"}
_COUNTS = ("exact_tokens", "reused_tokens", "recomputed_tokens", "cold_tokens")


class Tracing:
    """Begins the trace of each request.

    Args:
        tracer: the process's tracer when None; it drops spans until an exporter is set.
    """

    def __init__(self, tracer: Tracer | None = None) -> None:
        self._tracer = tracer or trace.get_tracer("kvblend")

    def begin(self, headers: MutableHeaders, record: RequestRecord) -> "RequestTrace":
        """Begin a request's span under the parent in its headers, and put the span into the headers."""
        parent = extract(dict(headers))
        span = self._tracer.start_span("request", parent, SpanKind.SERVER, start_time=record.begun_ns)
        context = trace.set_span_in_context(span, parent)
        carrier: dict[str, str] = {}
        inject(carrier, context)
        headers.update(carrier)
        return RequestTrace(self._tracer, span, context, record)


class RequestTrace:
    """The trace of one running request."""

    def __init__(self, tracer: Tracer, span: Span, context: Context, record: RequestRecord) -> None:
        self._tracer = tracer
        self._span = span
        self._context = context
        self._record = record

    def end(self, figures: Mapping[str, Any]) -> None:
        """Write the spans of all stages, and end the request's span.

        Args:
            figures: the log's fields of the request.
        """
        self._span.update_name(f"{figures['method']} {figures['route']}")
        self._span.set_attributes(
            {
                "http.request.method": figures["method"],
                "http.route": figures["route"],
                "http.response.status_code": figures["status"],
                "kvblend.request_id": figures["request_id"],
                "kvblend.namespace": figures["namespace"],
            }
        )
        if figures["status"] >= 500:
            self._span.set_status(Status(StatusCode.ERROR))
        if self._record.retrieved_ns is not None:
            self._add("retrieve", *self._record.retrieved_ns, self._context)
        for call in self._record.calls:
            self._add_call(call)
        self._span.end()

    def _add_call(self, call: EngineCall) -> None:
        stats = call.stats or BlendStats()
        at = call.begun_ns
        for name, length_ns in (("match", _ns(stats.times.match_ms)), ("load", _ns(stats.times.load_ms))):
            at = self._add_stage(name, at, length_ns, self._context)
        stages = [(name, _ns(getattr(stats.times, f"{name}_ms"))) for name in _BLEND]
        if total_ns := sum(length_ns for _, length_ns in stages):
            blend = self._start("blend", at, self._context, {**_RECONSTRUCTED, **dict(_counts(stats))})
            inside = trace.set_span_in_context(blend, self._context)
            begun = at
            for name, length_ns in stages:
                at = self._add_stage(name, at, length_ns, inside)
            blend.end(begun + total_ns)
        if call.first_ns is not None:
            if call.first_ns > at:
                self._add("suffix", at, call.first_ns, self._context, _RECONSTRUCTED)
            self._add("decode", call.first_ns, call.ended_ns or call.first_ns, self._context)

    def _add_stage(self, name: str, begin_ns: int, length_ns: int, inside: Context) -> int:
        """Write the span of a stage, unless its length is 0; returns the start of the next stage."""
        if length_ns:
            self._add(name, begin_ns, begin_ns + length_ns, inside, _RECONSTRUCTED)
        return begin_ns + length_ns

    def _add(
        self,
        name: str,
        begin_ns: int,
        end_ns: int,
        inside: Context,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        self._start(name, begin_ns, inside, attributes or {}).end(end_ns)

    def _start(self, name: str, begin_ns: int, inside: Context, attributes: Mapping[str, Any]) -> Span:
        return self._tracer.start_span(name, inside, start_time=begin_ns, attributes=dict(attributes))


def _counts(stats: BlendStats) -> Iterator[tuple[str, int]]:
    return ((f"kvblend.{name}", getattr(stats.counts, name)) for name in _COUNTS)


def _ns(milliseconds: float) -> int:
    return round(milliseconds * 1e6)
