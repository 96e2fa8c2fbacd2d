"""Broken servers: they accept connections, then stay silent, send noise, drip bytes or answer wrongly."""

import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port that is listened on; each connection is answered on a thread of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    Thread(target=talk, args=(connection,), daemon=True).start()

        def talk(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                answer(connection)

        Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)


def silent(connection: socket.socket) -> None:
    """Reads, and never answers."""
    while connection.recv(1 << 16):
        pass


def garbage(connection: socket.socket) -> None:
    """Answers everything with noise."""
    while connection.recv(1 << 16):
        connection.sendall(os.urandom(200) + b"\r\n")


def dripping(connection: socket.socket) -> None:
    """Promises a long answer, and gives a byte of it now and then."""
    while connection.recv(1 << 16):
        connection.sendall(b"$100000\r\n")
        for _ in range(1000):
            connection.sendall(b"x")
            time.sleep(0.02)


def lying(connection: socket.socket) -> None:
    """Answers every command with well-formed nonsense: any value has nine bytes, and is the same."""
    while data := connection.recv(1 << 16):
        for name in re.findall(rb"\*\d+\r\n\$\d+\r\n([A-Z]+)", data):
            connection.sendall(b":9\r\n" if name == b"STRLEN" else b"$9\r\nnot true\n\r\n")


ALL = (silent, garbage, dripping, lying)
