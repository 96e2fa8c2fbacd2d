"""Closes an answer's stream when its client disconnects."""

from types import AsyncGeneratorType
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

_STREAMS = "kvblend.streams"


def close_at_end(scope: Scope, stream: AsyncGeneratorType[Any, None]) -> None:
    """Register a stream to be closed at the end of its request, however the request ends."""
    scope[_STREAMS].append(stream)


def closed_at_end(answer: Any, request: Request | None) -> Any:
    """The answer itself; a stream is registered with `close_at_end`."""
    if isinstance(answer, AsyncGeneratorType) and request is not None:
        close_at_end(request.scope, answer)
    return answer


class CloseStreams:
    """ASGI middleware that closes the streams of `close_at_end`.

    When a client disconnects, Starlette leaves the response's generator to the garbage collector. Closing it
    aborts the request in the engine at once.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Set before inner middleware copies the scope, so that all copies share the list.
        streams: list[AsyncGeneratorType[Any, None]] = []
        scope[_STREAMS] = streams
        try:
            await self.app(scope, receive, send)
        finally:
            for stream in streams:
                # A stream that runs at this moment is being closed by its consumer.
                if not stream.ag_running:
                    await stream.aclose()
