"""Answers 503 on the server's socket until the engine is ready."""

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from api.server.errors import HEADERS, error_body, status_of
from blend.errors import EngineNotReady

NOT_READY = EngineNotReady("the engine is starting; try again in a few seconds")


@contextmanager
def starting(listener: socket.socket, tls: ssl.SSLContext | None = None) -> Iterator[None]:
    """Answer every request with 503 while the block runs.

    The engine's start blocks the event loop, so a thread runs a server on a duplicate of the socket.
    Connections that arrive while it stops wait in the socket's backlog for the real server.

    Args:
        listener: a bound socket, on which the caller listens afterwards.
        tls: TLS context of the connections; None for plain HTTP.
    """
    server = _Server(tls)
    server.socket.close()
    server.socket = listener.dup()
    server.server_activate()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    """Answers each connection in its own thread, so that a slow handshake blocks no other."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        super().__init__(("", 0), _NotReady, bind_and_activate=False)
        self._tls = tls

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self._tls is None:
            return super().finish_request(request, client_address)
        request.settimeout(_NotReady.timeout)
        with suppress(OSError), self._tls.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)


class _NotReady(BaseHTTPRequestHandler):
    timeout = 10.0  # seconds for a silent connection

    def _refuse(self) -> None:
        # An unread body would reset the connection before the client reads the answer.
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.dumps(error_body(NOT_READY)).encode()
        self.send_response(status_of(NOT_READY))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in HEADERS[status_of(NOT_READY)].items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = _refuse  # noqa: N815

    def do_HEAD(self) -> None:
        self.send_response(status_of(NOT_READY))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: these answers are expected."""
