"""A stream ends with its request, however that ends."""

import asyncio

import pytest

from api.server.chat.closing import CloseStreams, close_at_end


def run(app_part):
    closed = []

    async def tokens():
        try:
            while True:
                yield "token"
        finally:
            closed.append(True)

    async def app(scope, receive, send):
        stream = tokens()
        close_at_end({**scope}, stream)  # a copy, as some middleware makes
        await anext(stream)
        await app_part(stream)

    async def go():
        await CloseStreams(app)({"type": "http"}, None, None)

    return closed, go


def test_a_stream_that_was_left_is_closed():
    async def leave(stream):
        held.append(stream)  # so that no garbage collector does it

    held = []
    closed, go = run(leave)
    asyncio.run(go())
    assert closed == [True]


def test_a_stream_is_closed_when_the_request_fails():
    async def fail(stream):
        raise OSError("client went away")

    closed, go = run(fail)
    with pytest.raises(OSError, match="went away"):
        asyncio.run(go())
    assert closed == [True]
