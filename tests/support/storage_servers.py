"""Real servers for tests: Redis, a cluster of three, and an S3 service, all on free ports of this machine."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

import httpx
import pytest
import redis

from bench.processes import free_port
from tests.support.processes import wait_for

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")
_RUNNING: "list[RedisServer | S3Service]" = []


class RedisServer:
    """A Redis server that can be killed and brought back with what it had saved on the same port."""

    def __init__(self, *options: str) -> None:
        if PROGRAM is None:
            pytest.skip("needs redis-server: run `make deps`")
        self.port = free_port()
        self.folder = tempfile.mkdtemp(prefix="kvblend-redis-")
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        _RUNNING.append(self)

    @property
    def client(self) -> "redis.Redis":
        return redis.Redis(port=self.port, protocol=2)

    def start(self) -> None:
        assert PROGRAM is not None
        command = [PROGRAM, "--port", str(self.port), "--dir", self.folder, "--bind", "127.0.0.1"]
        durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        self._process = subprocess.Popen(
            [*command, *durable, *self._options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(self._answers, self._process)

    def _answers(self) -> bool:
        with self.client as client, suppress(redis.AuthenticationError):
            client.ping()
        return True  # also when it asks for a password

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Connections stay, and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class S3Service:
    """moto's S3 in a process of its own, with one bucket."""

    def __init__(self) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        endpoint = f"http://127.0.0.1:{self.port}"
        wait_for(lambda: httpx.put(f"{endpoint}/chunks", timeout=5).status_code == 200)
        self.variables = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": "not-a-secret",
        }
        _RUNNING.append(self)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@cache
def redis_server() -> RedisServer:
    """One for all tests that leave it alive."""
    return RedisServer()


@cache
def redis_url() -> str:
    return f"redis://127.0.0.1:{redis_server().port}/0"


@cache
def cluster_url() -> str:
    """Three nodes that share the slots."""
    buses = [free_port() for _ in range(3)]  # unless given, it is the port plus 10,000, which may be none
    nodes = [RedisServer("--cluster-enabled", "yes", "--cluster-port", str(bus)) for bus in buses]
    bounds = [(0, 5460), (5461, 10922), (10923, 16383)]
    for node, (first, last) in zip(nodes, bounds, strict=True):
        with node.client as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port, buses[0])
    for node in nodes:
        with node.client as client:
            wait_for(
                lambda client=client: "cluster_state:ok" in str(client.execute_command("CLUSTER", "INFO"))
            )
            wait_for(lambda client=client: len(client.execute_command("CLUSTER", "SLOTS")) == 3)
    return f"redis+cluster://127.0.0.1:{nodes[0].port}"


@cache
def s3_service() -> S3Service:
    """One for all tests. Its variables are this process's from now on: obstore reads them there."""
    service = S3Service()
    os.environ.update(service.variables)
    return service


def s3_url() -> str:
    s3_service()
    return "s3://chunks/kvblend"


def stop_all() -> None:
    """At the end of the session."""
    while _RUNNING:
        _RUNNING.pop().stop()


def mark_of_path(path: Path) -> str:
    """A model's mark that no other test has."""
    return f"{hash(str(path)) & (1 << 64) - 1:016x}"
