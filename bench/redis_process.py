"""A Redis server for a benchmark: the one that the user names, or one of its own that goes with it."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from blend.errors import RequestError

START_S = 20.0
PROGRAMS = ("redis-server", "valkey-server")


def redis_program() -> str | None:
    """The server's program on this machine, or None."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@contextmanager
def redis_at(url: str | None) -> Iterator[str]:
    """The URL of a server that answers: the given one, else that of one that is started here and ends here.

    Raises:
        RequestError: there is neither a URL nor a program, or the server did not start.
    """
    if url is not None:
        yield url
        return
    program = redis_program()
    if program is None:
        raise RequestError(
            f"got no --redis URL, and found none of {', '.join(PROGRAMS)}: name a server, or install one"
        )
    port = _free_port()
    with TemporaryDirectory(prefix="kvblend-redis-") as folder:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder]
        in_memory = ["--save", "", "--appendonly", "no"]
        process = subprocess.Popen([*command, *in_memory], stdout=subprocess.DEVNULL)
        try:
            _wait_for(port, process)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.02)
    raise RequestError(f"the Redis server did not start on port {port}: name one with --redis URL")
