"""What stands around every route, vLLM's and ours: log, error shapes, CORS, draining, keys and limits."""

from argparse import Namespace
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from api.server.chat.closing import CloseStreams
from api.server.errors import install_handlers
from api.server.settings import ServeConfig
from api.server.surface.bodies import CheckBodies
from api.server.surface.draining import Drain, FinishRequests
from api.server.surface.error_shape import ShapeErrors
from api.server.surface.keys import AskForKey, KeyRing
from api.server.surface.request_log import LogRequests
from api.server.surface.tracing import Tracing

_REPLACED = {"AuthenticationMiddleware", "XRequestIdMiddleware"}
"""vLLM's own, which guard some routes by some keys, and pass any id on."""


@dataclass(frozen=True, slots=True)
class Surface:
    """What `install_surface` puts around a server's routes.

    Attributes:
        drain: counts the requests that a server which stops waits for.
        tracing: None writes no traces.
    """

    keys: KeyRing
    limits: ServeConfig
    drain: Drain
    tracing: Tracing | None = None


def vllm_keys(args: Namespace, variable: str | None) -> list[str]:
    """Keys that were given in vLLM's way: `--api-key`, else what `$VLLM_API_KEY` holds."""
    return [key for key in (args.api_key or [variable]) if key]


def install_surface(app: FastAPI, surface: Surface) -> None:
    """Put all of it around an app that vLLM has built; what vLLM put there stays inside."""
    theirs: list[Any] = [
        one for one in app.user_middleware if getattr(one.cls, "__name__", "") not in _REPLACED
    ]
    cors = [one for one in theirs if one.cls is CORSMiddleware]
    install_handlers(app)
    # The first is the outermost. CORS stands before the keys: a browser's preflight carries none, and an
    # answer that it may not read says nothing to a page.
    ours: list[Any] = [
        Middleware(LogRequests, tracing=surface.tracing),
        Middleware(ShapeErrors),
        *cors,
        Middleware(FinishRequests, drain=surface.drain),
        Middleware(AskForKey, ring=surface.keys),
        Middleware(CheckBodies, limits=surface.limits),
        Middleware(CloseStreams),
        *(one for one in theirs if one not in cors),
    ]
    app.user_middleware[:] = ours
    app.middleware_stack = None  # vLLM has built it already; it is built again at the first request
