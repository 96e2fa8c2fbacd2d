"""The request log: one line for every request, with its route, status, times and blend figures."""

import json
import logging
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.server.surface.request import NAMESPACE, RequestRecord, record_in_force, route_path
from api.server.surface.tracing import Tracing
from blend.report.stats import TokenCounts

HEADER = "X-Request-Id"
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_FIGURES = "figures"

OURS = ("kvblend", "api", "blend", "precompute", "retriever")

logger = logging.getLogger("kvblend.requests")


def request_id_of(headers: Headers) -> str:
    """A request's id: the client's, if it is safe in a log and a header, else a new one.

    >>> request_id_of(Headers({"X-Request-Id": "job-7"}))
    'job-7'
    """
    given = headers.get(HEADER, "")
    return given if _ID.fullmatch(given) else uuid4().hex


def blend_figures(record: RequestRecord) -> dict[str, Any] | None:
    """Sums over a request's blends, or None without an engine's answer; counts only, no texts."""
    if not (stats := record.stats):
        return None
    kinds = ("exact", "reused", "recomputed", "cold")
    counts = sum((one.counts for one in stats), TokenCounts())
    sums: dict[str, Any] = {kind: getattr(counts, f"{kind}_tokens") for kind in kinds}
    return {**sums, "fallback": next((one.fallback for one in stats if one.fallback is not None), None)}


def figures_of(scope: Scope, status: int, record: RequestRecord) -> dict[str, Any]:
    """The log's fields of a finished request.

    Args:
        status: of the answer, or 499 when the client disconnected first.
    """
    # The route's pattern instead of the path, where there is one: a document's name may be confidential.
    route = getattr(scope.get("route"), "path", None) or route_path(scope)
    ttft_ms = record.ttft_ms
    return {
        "request_id": record.request_id,
        "namespace": scope.get(NAMESPACE, ""),
        "method": scope.get("method", "WEBSOCKET"),
        "route": route,
        "status": status,
        "ms": round((time.time_ns() - record.begun_ns) / 1e6, 1),
        "ttft_ms": None if ttft_ms is None else round(ttft_ms, 1),
        "prompt_tokens": record.prompt_tokens,
        "completion_tokens": record.completion_tokens,
        "blend": blend_figures(record),
    }


class JsonLines(logging.Formatter):
    """Formats a log record as one JSON object a line, with a request's figures as its fields."""

    def format(self, record: logging.LogRecord) -> str:
        figures: Mapping[str, Any] = getattr(record, _FIGURES, {})
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            **({} if figures else {"message": record.getMessage()}),
            **figures,
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True, default=str)


def text_of(figures: Mapping[str, Any]) -> str:
    """A request's figures for people.

    >>> text_of({"method": "GET", "route": "/health", "status": 200, "ms": 1.5, "request_id": "a"})
    'GET /health 200 1.5 ms, id a'
    """
    parts = [f"{figures['method']} {figures['route']} {figures['status']} {figures['ms']} ms"]
    if figures.get("ttft_ms") is not None:
        parts.append(f"first token {figures['ttft_ms']} ms")
    if figures.get("prompt_tokens"):
        parts.append(f"{figures['prompt_tokens']} + {figures['completion_tokens']} tokens")
    if blend := figures.get("blend"):
        parts += [f"{kind} {blend[kind]}" for kind in ("exact", "reused", "recomputed", "cold")]
        parts += [f"not blended: {blend['fallback']}"] if blend["fallback"] else []
    if figures.get("namespace"):
        parts.append(f"namespace {figures['namespace']}")
    return ", ".join([*parts, f"id {figures['request_id']}"])


def set_up_log(log_format: str) -> None:
    """Send kvblend's log of this process to standard error, as "text" or "json"."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        JsonLines()
        if log_format == "json"
        else logging.Formatter("%(asctime)s %(message)s", "%m-%d %H:%M:%S")
    )
    for name in OURS:
        ours = logging.getLogger(name)
        ours.handlers[:] = [handler]
        ours.propagate = False
        ours.setLevel(logging.INFO)


class LogRequests:
    """ASGI middleware that gives every request an id and a record, and writes its log line and trace."""

    def __init__(self, app: ASGIApp, tracing: Tracing | None = None) -> None:
        self.app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        record = RequestRecord(request_id_of(Headers(scope=scope)))
        # vLLM takes its request ids from this header, so it gets the id that the client sees.
        headers = MutableHeaders(raw=list(scope["headers"]))
        headers[HEADER] = record.request_id
        trace = None if self._tracing is None else self._tracing.begin(headers, record)
        scope["headers"] = headers.raw
        status = 499  # until an answer begins

        async def numbered(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
                MutableHeaders(raw=message["headers"])[HEADER] = record.request_id
            elif message["type"] == "websocket.accept":
                status = 101
            await send(message)

        token = record_in_force.set(record)
        try:
            await self.app(scope, receive, numbered)
        finally:
            record_in_force.reset(token)
            figures = figures_of(scope, status, record)
            logger.info("%s", text_of(figures), extra={_FIGURES: figures})
            if trace is not None:
                trace.end(figures)
