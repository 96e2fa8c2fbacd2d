"""Closes an answer's stream when its client has left."""

from types import AsyncGeneratorType
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

_STREAMS = "kvblend.streams"


def close_at_end(scope: Scope, stream: AsyncGeneratorType[Any, None]) -> None:
    """Have a stream closed when its request is over, however it ends."""
    scope[_STREAMS].append(stream)


def closed_at_end(answer: Any, request: Request | None) -> Any:
    """The answer itself; when it is a stream, it is closed when its request is over."""
    if isinstance(answer, AsyncGeneratorType) and request is not None:
        close_at_end(request.scope, answer)
    return answer


class CloseStreams:
    """ASGI middleware that closes what `close_at_end` was given.

    Starlette leaves the generator of a response whose client has left to the garbage collector; closing it
    aborts the request in the engine at once.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Put there before others see the scope, so that copies of it share the list.
        streams: list[AsyncGeneratorType[Any, None]] = []
        scope[_STREAMS] = streams
        try:
            await self.app(scope, receive, send)
        finally:
            for stream in streams:
                # One that runs at this moment is being closed by the wrapper that runs it.
                if not stream.ag_running:
                    await stream.aclose()
