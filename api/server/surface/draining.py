"""Graceful shutdown: running requests finish, up to a time limit, and new requests are refused."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.server.errors import ShuttingDown, error_body, error_response

CUT_S = 5.0
"""Time for cancelled requests to send their error to the client."""


class Drain:
    """Tracks running requests. Belongs to the event loop, except `wait`.

    Args:
        limit_s: time for requests to finish.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_empty = threading.Event()
        self._is_empty.set()
        self.is_closing = False
        self.is_over = False

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Track the current task as a request."""
        task = asyncio.current_task()
        assert task is not None
        self._loop = task.get_loop()
        self._tasks.add(task)
        self._is_empty.clear()
        try:
            yield
        finally:
            self._tasks.discard(task)
            if not self._tasks:
                self._is_empty.set()

    def wait(self) -> None:
        """Refuse new requests, and wait until none is running; requests over the time limit are cancelled.

        Called from a thread while the event loop runs.
        """
        self.is_closing = True
        if self._is_empty.wait(self._limit_s) or self._loop is None:
            return
        self.is_over = True
        self._loop.call_soon_threadsafe(self._cut)
        self._is_empty.wait(CUT_S)

    def _cut(self) -> None:
        for task in self._tasks:
            task.cancel()


class FinishRequests:
    """ASGI middleware that tracks requests, and refuses or cancels them while the server shuts down."""

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        self.app = app
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        if self._drain.is_closing:
            return await _refuse(scope, receive, send)
        answer = _Answer(send)
        with self._drain.under_way():
            try:
                await self.app(scope, receive, answer.send)
            except asyncio.CancelledError:
                if not self._drain.is_over:
                    raise
                await answer.cut(scope, receive)


class _Answer:
    """How far one answer has been sent."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._is_begun = self._is_ended = self._is_stream = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._is_begun = True
            types = [value for name, value in message["headers"] if name.lower() == b"content-type"]
            self._is_stream = any(value.startswith(b"text/event-stream") for value in types)
        elif message["type"] == "http.response.body":
            self._is_ended = not message.get("more_body", False)
        await self._send(message)

    async def cut(self, scope: Scope, receive: Receive) -> None:
        if not self._is_begun:
            await _refuse(scope, receive, self._send)
        elif self._is_stream and not self._is_ended:
            event = f"data: {json.dumps(error_body(_error()))}\n\n".encode()
            await self._send({"type": "http.response.body", "body": event, "more_body": False})


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        return await send({"type": "websocket.close", "code": 1012})
    await error_response(_error())(scope, receive, send)


def _error() -> ShuttingDown:
    return ShuttingDown("the server is shutting down; send the request again, to another one or later")
