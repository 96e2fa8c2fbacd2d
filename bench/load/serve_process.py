"""`kvblend serve` as a process of one's own, from its start to its end."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from blend.errors import EngineNotReady

START_S = 1800.0
STOP_S = 60.0
LOG_CHARS = 2000
HOST = "127.0.0.1"


@contextmanager
def serve_process(store: Path, collection: str, log: Path) -> Iterator[str]:
    """Start a server on a free port, wait until it is ready, and stop it afterwards.

    Args:
        log: file for what the server says.

    Yields:
        Its base URL.

    Raises:
        EngineNotReady: it did not start; the end of its log is part of the message.
    """
    command = [
        sys.executable,
        "-m",
        "api.cli",
        "serve",
        "--collection",
        collection,
        "--store",
        str(store),
    ]
    with http_process([*command, "--host", HOST], log) as url:
        yield url


@contextmanager
def http_process(command: Sequence[str], log: Path) -> Iterator[str]:
    """The same with any command that takes `--port` and answers `/health`."""
    port = _free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own, so that its engine can be ended with it
        )
        try:
            url = f"http://{HOST}:{port}"
            _wait(process, url, log)
            yield url
        finally:
            _stop(process)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        port: int = free.getsockname()[1]
    return port


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        if _is_healthy(url):
            return
        time.sleep(0.5)
    said = log.read_text(errors="replace")[-LOG_CHARS:]
    raise EngineNotReady(f"the server did not start; the end of its log:\n{said}")


def _is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == httpx.codes.OK
    except httpx.TransportError:  # the socket is not bound yet, or changes hands
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
