"""A fake of vLLM's HTTP server without a model: it streams the same events, at a pace that the test sets."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route


@dataclass
class FakeVllm:
    """Its pace, and the requests that it received.

    Attributes:
        first_s: before the first token; `blended_first_s` where blending is on.
        next_s: between tokens.
        bodies: of chat requests, in the order they came in, with `time.perf_counter`.
    """

    first_s: float = 0.1
    blended_first_s: float = 0.05
    next_s: float = 0.02
    bodies: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    @property
    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/models", self.models),
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
            ]
        )

    async def models(self, request: Request) -> Response:
        model = {"id": "m", "object": "model", "created": 0, "owned_by": "tests"}
        return JSONResponse({"object": "list", "data": [model]})

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        self.bodies.append((time.perf_counter(), body))
        question = body["messages"][-1]["content"]
        if "refuse" in question:
            return JSONResponse({"error": {"message": "no"}}, status_code=400)
        return StreamingResponse(self.events(body, question), media_type="text/event-stream")

    async def events(self, body: dict[str, Any], question: str) -> AsyncIterator[str]:
        blends = body["blend"]["enabled"] and "chunk" in question
        await asyncio.sleep(self.blended_first_s if blends else self.first_s)
        yield event([choice({"role": "assistant", "content": ""})])
        for number in range(body["max_tokens"]):
            if number:
                await asyncio.sleep(self.next_s)
            if number == 2 and "break off" in question:
                raise ConnectionError("as if the process had died")
            if number == 2 and "go wrong" in question:
                yield f"data: {json.dumps({'error': {'message': 'the engine has died', 'code': 500}})}\n\n"
                return
            # Token 1 is a part of a character: no text as yet.
            yield event([choice({"content": "" if number == 1 else "x"})])
        stats = {"fallback": None if blends else "switched off"}
        yield event([choice({}, "length")], blend=stats)
        usage = {"prompt_tokens": 9, "completion_tokens": body["max_tokens"], "total_tokens": 0}
        yield event([], usage=usage)
        yield "data: [DONE]\n\n"


def choice(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish_reason}


def event(choices: list[dict[str, Any]], **more: Any) -> str:
    head = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m"}
    return f"data: {json.dumps({**head, 'choices': choices, **more})}\n\n"


@contextmanager
def fake_vllm_server(peer: FakeVllm) -> Iterator[str]:
    """Serve it on a free port; yields its base URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(peer.app, log_level="critical", ws="none", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
