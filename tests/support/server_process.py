"""A real `kvblend serve` for end-to-end tests."""

import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai

from bench.processes import free_port
from retriever.collection import Collection
from tests.support.processes import kill

ROOT = Path(__file__).parents[2]
CHUNK_TOKENS = 160
MAX_MODEL_LEN = 3072
START_S = 400


@dataclass(frozen=True)
class Served:
    """A running `kvblend serve`.

    Attributes:
        statuses: what `/health` answered while it started.
    """

    url: str
    client: openai.OpenAI
    collection: Collection
    statuses: tuple[int, ...]
    model: str


@dataclass(frozen=True)
class Running:
    """A server's process.

    Attributes:
        statuses: what `/health` answered while it started.
        log: what it has written.
    """

    url: str
    statuses: tuple[int, ...]
    process: subprocess.Popen[bytes]
    log: Path


def kvblend(*args: str) -> list[str]:
    return [sys.executable, "-m", "api.cli", *args]


@contextmanager
def serving(store: Path) -> Iterator[Served]:
    """A server on a free port, with the collection `docs` of a store."""
    tools = ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
    with (
        running(store, "--collection", "docs", "--always-blend", *tools) as (url, statuses),
        client_of(url) as client,
    ):
        model = client.models.list().data[0].id
        yield Served(url, client, Collection.open(store, "docs"), statuses, model)


def client_of(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


@contextmanager
def running(store: Path, *flags: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """A server on a free port: its URL, and what `/health` answered while it started."""
    with started(store, *flags) as server:
        yield server.url, server.statuses


@contextmanager
def started(
    store: Path,
    *flags: str,
    environment: Mapping[str, str] | None = None,
    trusted: ssl.SSLContext | None = None,
) -> Iterator[Running]:
    """A server on a free port.

    Args:
        environment: variables on top of this process's.
        trusted: what to connect to it with, where the flags have it speak TLS.
    """
    port = free_port()
    log = store.parent / f"serve-{port}.log"
    place = ["--host", "127.0.0.1", "--port", str(port), "--max-model-len", str(MAX_MODEL_LEN)]
    with log.open("w") as output:
        process = subprocess.Popen(
            kvblend("serve", "--store", str(store), *place, *flags),
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", **(environment or {})},
        )
    url = f"{'https' if trusted else 'http'}://127.0.0.1:{port}"
    try:
        yield Running(url, _wait(process, url, log, trusted), process, log)
    finally:
        kill(process)


def _wait(
    process: subprocess.Popen[bytes], url: str, log: Path, trusted: ssl.SSLContext | None
) -> tuple[int, ...]:
    statuses: list[int] = []
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-4000:]
        try:
            statuses.append(httpx.get(f"{url}/health", timeout=5, verify=trusted or True).status_code)
        except httpx.TransportError:
            time.sleep(0.2)  # the socket is not bound yet, or changes hands
            continue
        if statuses[-1] == 200:
            return tuple(statuses)
        time.sleep(0.5)
    raise AssertionError(f"the server did not start: {log.read_text()[-4000:]}")
