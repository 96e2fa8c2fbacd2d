"""Servers as processes of a benchmark: started on a free port, waited for, and stopped at its end."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from blend.errors import EngineNotReady, RequestError

HOST = "127.0.0.1"
SERVER_START_S = 1800.0
"""Converting a model and the self-check are part of a server's first start."""
REDIS_START_S = 20.0
STOP_S = 60.0
"""After that the process group is killed."""
LOOK_EVERY_S = 0.1
LOG_CHARS = 2000
"""Of the end of a log, in an error message."""
REDIS_PROGRAMS = ("redis-server", "valkey-server")


@contextmanager
def kvblend_server(log: Path, *flags: str) -> Iterator[str]:
    """`kvblend serve` with these flags; see `http_server`."""
    with http_server([sys.executable, "-m", "api.cli", "serve", "--host", HOST, *flags], log) as url:
        yield url


@contextmanager
def http_server(command: Sequence[str], log: Path) -> Iterator[str]:
    """A server that takes `--port` and answers `/health`; yields its base URL.

    Args:
        log: file for the server's output.

    Raises:
        EngineNotReady: the server did not start; the end of its log is part of the message.
    """
    port = free_port()
    url = f"http://{HOST}:{port}"
    with log.open("wb") as output, _process([*command, "--port", str(port)], output) as process:
        if not _wait(process, lambda: _is_healthy(url), SERVER_START_S):
            end = log.read_text(errors="replace")[-LOG_CHARS:]
            raise EngineNotReady(f"the server did not start; the end of its log:\n{end}")
        yield url


def redis_program() -> str | None:
    """The path of a Redis server's program on this machine, or None."""
    return next(filter(None, map(shutil.which, REDIS_PROGRAMS)), None)


@contextmanager
def redis_server(url: str | None) -> Iterator[str]:
    """The URL of a Redis server: the given one, else that of a server started here, in memory alone.

    Raises:
        RequestError: there is neither a URL nor a program, or the server did not start.
    """
    if url is not None:
        yield url
        return
    program = redis_program()
    if program is None:
        raise RequestError(
            f"got no --redis URL and found none of {', '.join(REDIS_PROGRAMS)}: name a server or install one"
        )
    port = free_port()
    with TemporaryDirectory(prefix="kvblend-redis-") as folder:
        command = [program, "--port", str(port), "--bind", HOST, "--dir", folder, "--save", ""]
        with _process([*command, "--appendonly", "no"], subprocess.DEVNULL) as process:
            if not _wait(process, lambda: _accepts(port), REDIS_START_S):
                raise RequestError(
                    f"the Redis server did not start on port {port}: name a running one with --redis URL"
                )
            yield f"redis://{HOST}:{port}/0"


@contextmanager
def _process(command: Sequence[str], output: object) -> "Iterator[subprocess.Popen[bytes]]":
    # In a process group of its own, so that the engine of a server can be killed with it.
    process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", is_ready: Callable[[], bool], most_s: float) -> bool:
    """Whether a process is ready; False when it has ended, or takes too long."""
    deadline = time.monotonic() + most_s
    while time.monotonic() < deadline and process.poll() is None:
        if is_ready():
            return True
        time.sleep(LOOK_EVERY_S)
    return False


def _is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == httpx.codes.OK
    except httpx.TransportError:  # the socket is not bound yet, or is handed to another process
        return False


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=1):
            return True
    except OSError:
        return False


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port: int = free.getsockname()[1]
        return port
