"""`kvblend serve`: vLLM's own OpenAI server, with retrieval, blending and its figures in every answer."""

import signal
import sys
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from socket import socket
from ssl import SSLContext
from typing import Any

import uvloop
from fastapi import FastAPI

from api.server.chat.retrieval import Retrieval
from api.server.chat.route import BlendChat, BlendCompletion, take_over_chat_route
from api.server.collections.library import Library
from api.server.collections.routes import collections_router
from api.server.file_search.responses import BlendResponses
from api.server.file_search.searching import FileSearch
from api.server.flags import Launch, parse_flags, prepare_launch
from api.server.guard import GuardedEngine
from api.server.ingest.ingest import managed_model
from api.server.ingest.lifespan import Ingestion, ingesting
from api.server.ingest.routes import ingest_router
from api.server.page import page_router
from api.server.settings import DEFAULTS, ServeConfig
from api.server.starting import starting
from api.server.surface.draining import Drain
from api.server.surface.install import Surface, install_surface, vllm_keys
from api.server.surface.keys import KeyRing
from api.server.surface.openapi import complete_openapi
from api.server.surface.request import namespace_in_force
from api.server.surface.request_log import set_up_log
from api.server.surface.tls import tls_of
from api.server.surface.tracing import Tracing
from api.server.vector_stores.routes import open_vector_stores, vector_stores_router
from api.server.vllm_names import (
    AsyncEngineArgs,
    build_app,
    cli_env_setup,
    entry,
    get_uvicorn_log_config,
    init_app_state,
    propagate_flash_late_interaction,
    serve_http,
    setup_server,
)
from blend.errors import ConfigError
from blend.store.config import StoreConfig
from blend.vllm.engine.engine import Engine
from blend.vllm.engine.start import serving_engine
from blend.vllm.gate.verdict_file import GateFile
from retriever.rerank import open_reranker

CLOSE_S = 3
"""Time for idle connections to close at the end: a TLS client may take 30 s to close its side."""


def serve(config: ServeConfig, store: StoreConfig, flags: Sequence[str]) -> int:
    """Serve until a signal comes; returns the exit status.

    Args:
        flags: vLLM's own, passed through.

    Raises:
        UnknownCollection, CollectionError, EmbedderError: before the served model is loaded.
        ModelError: the model cannot be found or read.
        RequestError: a flag is not supported.
        ConfigError: a key or certificate cannot be read.
    """
    reranker = None if config.reranker is None else open_reranker(config.reranker)
    library = Library(store.path, config.collections, reranker=reranker, reader=namespace_in_force.get)
    if config.embedder != DEFAULTS.embedder:
        library.embedder(config.embedder)  # a missing model fails now, and not at the first request
    cli_env_setup()
    args = parse_flags(flags)
    entry.configure_logging_from_args(args)  # type: ignore[attr-defined]
    set_up_log(config.log_format)
    surface, tls = _surface(config, args), tls_of(args)
    launch = prepare_launch(
        config.model
        or args.model_tag
        or (None if library.names else managed_model(store.path))
        or library.model_name,
        store,
        args,
        recompute_ratio=config.recompute_ratio,
        sharing=config.share_blends.value,
        always_blends=config.always_blend,
    )
    library.check_model(launch.setup.settings.fingerprint)
    # Until the HTTP server installs its own handlers, SIGTERM is handled like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    address, listener = _listen(launch.args)
    with listener:
        with starting(listener, tls):
            _pass_gate(launch)
        uvloop.run(_serve(launch, library, surface, config, address, listener, tls))
    return 0


def _listen(args: Any) -> tuple[str, socket]:
    try:
        listening: tuple[str, socket] = setup_server(args, reuse_port=False)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {args.host or 'all interfaces'}, port {args.port}: {error.strerror}; "
            "choose another --host or --port"
        ) from error
    return listening


def _surface(config: ServeConfig, args: Any) -> Surface:
    keys = KeyRing(config.key_file, vllm_keys(args, entry.envs.VLLM_API_KEY))  # type: ignore[attr-defined]
    tracing = Tracing() if args.otlp_traces_endpoint else None
    return Surface(keys, config, Drain(config.drain_s), tracing)


async def _serve(
    launch: Launch,
    library: Library,
    surface: Surface,
    config: ServeConfig,
    address: str,
    listener: socket,
    tls: SSLContext | None,
) -> None:
    async with AsyncExitStack() as stack:
        with starting(listener, tls):
            _tell(f"starting the engine: {launch.setup.model_name}, {launch.args.dtype}")
            client = await stack.enter_async_context(serving_engine(_engine_arguments(launch.args)))
            ingestion = await stack.enter_async_context(ingesting(client, library, launch.setup, config))
            app = await _build(launch, library, surface, client, ingestion)
        _tell(f"ready on {address}, {_status(launch, library)}")
        stopped: Awaitable[Any] = await serve_http(app, listener, **_uvicorn(launch.args))
    await stopped


def _engine_arguments(args: Any) -> Any:
    """The engine's arguments from the flags, as in vLLM's own server."""
    arguments = AsyncEngineArgs.from_cli_args(args)
    propagate_flash_late_interaction(args, arguments)
    return arguments


async def _build(
    launch: Launch, library: Library, surface: Surface, client: Any, ingestion: Ingestion | None
) -> FastAPI:
    tasks = await client.get_supported_tasks()
    app = build_app(launch.args, tasks, client.model_config)
    install_surface(app, surface)
    app.include_router(collections_router(library))
    app.include_router(page_router())
    complete_openapi(app, has_keys=bool(surface.keys))
    guarded: Any = GuardedEngine(client, surface.drain, ingestion.stop if ingestion else None)
    await init_app_state(guarded, app.state, launch.args, tasks)
    retrieval = Retrieval(library, client.renderer.get_tokenizer())
    if hasattr(client.renderer, "know"):
        client.renderer.know(library)
    state = app.state
    if state.openai_serving_chat is not None:  # a generating model
        documents = ingestion.documents if ingestion else None
        file_search = _file_search(app, client, retrieval, ingestion)
        state.openai_serving_chat = BlendChat(state.openai_serving_chat, retrieval, documents, file_search)
        state.openai_serving_responses = BlendResponses(
            state.openai_serving_responses, retrieval, file_search
        )
        state.openai_serving_completion = BlendCompletion(state.openai_serving_completion, retrieval)
    if ingestion is not None:
        app.include_router(ingest_router(ingestion.ingest))
        take_over_chat_route(app)
    return app


def _file_search(
    app: FastAPI, client: Any, retrieval: Retrieval, ingestion: Ingestion | None
) -> FileSearch | None:
    """Open the vector stores, with their routes; None without ingestion."""
    if ingestion is None:
        return None
    stores = open_vector_stores(retrieval.library, ingestion.ingest)
    app.include_router(vector_stores_router(stores))
    tokenizer, max_model_len = client.renderer.get_tokenizer(), client.model_config.max_model_len
    return FileSearch(stores, retrieval, tokenizer, max_model_len)


def _pass_gate(launch: Launch) -> None:
    """Run the model's self-check, by starting an engine, unless its verdict is stored."""
    if launch.setup.not_blendable is None and GateFile(launch.setup.settings.verdict_file).read() is None:
        _tell(f"first start with {launch.setup.model_name}: comparing blends with full prefill")
        with Engine(launch.model, launch.setup.settings.tiers, **launch.said):
            pass


def _tell(phase: str) -> None:
    """One line a phase, for whoever watches the start."""
    print(f"kvblend: {phase}", file=sys.stderr, flush=True)


def _status(launch: Launch, library: Library) -> str:
    """One line: what is served, and whether it is blended."""
    setup = launch.setup
    names = ", ".join(library.names) or "no collection"
    if setup.not_blendable is not None:
        return f"{setup.model_name} without blending ({setup.not_blendable}); {names}"
    verdict = GateFile(setup.settings.verdict_file).read()
    if verdict is None or not verdict.passed:
        reason = verdict.reason if verdict else "no self-check was recorded"
        return f"{setup.model_name} without blending ({reason}); {names}"
    return f"{setup.model_name}, blending; {names}"


def _uvicorn(args: Any) -> dict[str, Any]:
    """uvicorn's arguments, as in vLLM's own server."""
    log_config = get_uvicorn_log_config(args)
    return {
        "enable_ssl_refresh": args.enable_ssl_refresh,
        "host": args.host,
        "port": args.port,
        "log_level": args.uvicorn_log_level,
        "access_log": False,  # `LogRequests` writes a line for each request
        "timeout_graceful_shutdown": CLOSE_S,
        "timeout_keep_alive": entry.envs.VLLM_HTTP_TIMEOUT_KEEP_ALIVE,  # type: ignore[attr-defined]
        "ssl_keyfile": args.ssl_keyfile,
        "ssl_certfile": args.ssl_certfile,
        "ssl_ca_certs": args.ssl_ca_certs,
        "ssl_cert_reqs": args.ssl_cert_reqs,
        "ssl_ciphers": args.ssl_ciphers,
        "h11_max_incomplete_event_size": args.h11_max_incomplete_event_size,
        "h11_max_header_count": args.h11_max_header_count,
        **({"log_config": log_config} if log_config is not None else {}),
    }
