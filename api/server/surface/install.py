"""Installs the middleware of all routes: log, shape of errors, CORS, draining, keys and limits."""

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
"""Middleware of vLLM that is removed: it checks keys on some routes only, and passes on any request id."""


@dataclass(frozen=True, slots=True)
class Surface:
    """Arguments of `install_surface`.

    Attributes:
        drain: tracks running requests for a graceful shutdown.
        tracing: None for no traces.
    """

    keys: KeyRing
    limits: ServeConfig
    drain: Drain
    tracing: Tracing | None = None


def vllm_keys(args: Namespace, variable: str | None) -> list[str]:
    """API keys from vLLM's flag `--api-key`, else from `$VLLM_API_KEY`."""
    return [key for key in (args.api_key or [variable]) if key]


def install_surface(app: FastAPI, surface: Surface) -> None:
    """Put the middleware around an app that vLLM has built; vLLM's remaining middleware stays inside."""
    vllms: list[Any] = [
        one for one in app.user_middleware if getattr(one.cls, "__name__", "") not in _REPLACED
    ]
    cors = [one for one in vllms if one.cls is CORSMiddleware]
    install_handlers(app)
    # The first is the outermost. CORS comes before the keys: a browser's preflight carries no key, and a page
    # cannot read an answer without CORS headers.
    stack: list[Any] = [
        Middleware(LogRequests, tracing=surface.tracing),
        Middleware(ShapeErrors),
        *cors,
        Middleware(FinishRequests, drain=surface.drain),
        Middleware(AskForKey, ring=surface.keys),
        Middleware(CheckBodies, limits=surface.limits),
        Middleware(CloseStreams),
        *(one for one in vllms if one not in cors),
    ]
    app.user_middleware[:] = stack
    app.middleware_stack = (
        None  # vLLM has built the stack already; Starlette rebuilds it at the first request
    )
