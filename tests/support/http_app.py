"""An application on a real socket, without an engine, and OpenAI's own client to it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from types import SimpleNamespace

import openai
import uvicorn
from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from vllm.entrypoints.serve.exception_handling.register import init_exception_handler

from api.server.errors import install_handlers
from api.server.surface.request import NAMESPACE
from bench.processes import free_port
from tests.support.processes import START_S

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


class NamespaceHeader:
    """Replaces API keys: the header `x-who` names the namespace."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope[NAMESPACE] = Headers(scope=scope).get("x-who", "")
        await self.app(scope, receive, send)


def application(lifespan: Lifespan | None = None) -> FastAPI:
    """One that answers errors as the served one does."""
    app = FastAPI(lifespan=lifespan)
    app.state.args = SimpleNamespace(log_error_stack=False)  # vLLM's handlers ask for it
    init_exception_handler(app)
    install_handlers(app)
    app.add_middleware(NamespaceHeader)
    return app


@contextmanager
def client_of(app: FastAPI) -> Iterator[openai.OpenAI]:
    """A client that refuses answers that are not exactly as OpenAI documents them."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + START_S
    while not server.started:
        assert thread.is_alive() and time.monotonic() < deadline
        time.sleep(0.01)
    try:
        with openai.OpenAI(
            base_url=f"http://127.0.0.1:{port}/v1",
            api_key="none",
            max_retries=0,
            _strict_response_validation=True,
        ) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()
