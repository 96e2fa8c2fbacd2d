"""The connection to a remote: every call has a deadline, and a circuit breaker in front of it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cache
from threading import Lock, Thread
from typing import TypeVar
from weakref import finalize

from blend.errors import BlendError, StoreError
from blend.report.metrics import Meter
from blend.store.remote.breaker import CLOSED, Breaker
from blend.store.remote.client import RemoteClient, make_client
from blend.store.remote.url import hide, hide_in
from blend.store.tiers.tier_meter import CIRCUIT_OPEN, FAILURES, SKIPPED

T = TypeVar("T")
Request = Callable[[RemoteClient], Awaitable[T]]

MAX_CALLS = 16
"""Calls in flight on one connection; others wait within their deadline."""
WRITE_FACTOR = 10
"""Deadlines that a call may take if no request waits for it."""
MIN_WRITE_S = 5.0
LATE_S = 1.0
"""How late a busy event loop may report a missed deadline."""


class UnreachableRemote(StoreError):
    """The remote is dead, slow or lying, or was so a moment ago."""


_starting = Lock()


def _event_loop() -> asyncio.AbstractEventLoop:
    """The event loop of all remotes of this process; it runs on a thread of its own."""
    with _starting:
        return _started_loop()


@cache
def _started_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    Thread(target=loop.run_forever, name="kvblend-remote", daemon=True).start()
    return loop


def run(request: Callable[[], Awaitable[T]], seconds: float, slots: asyncio.Semaphore | None = None) -> T:
    """What a request returns, which runs on the event loop of all remotes.

    A missed deadline cancels the request and closes its connection alone. A timeout of sockets would be no
    deadline: a server that sends a byte now and then never exceeds it.

    Raises:
        TimeoutError: it did not return in time.
        Exception: what it raises.
    """

    async def within_deadline() -> T:
        async with asyncio.timeout(seconds), slots or asyncio.Semaphore():
            return await request()

    future = asyncio.run_coroutine_threadsafe(within_deadline(), _event_loop())
    try:
        return future.result(seconds + LATE_S)
    except TimeoutError:
        future.cancel()
        raise TimeoutError(f"no answer within {seconds * 1e3:.0f} ms") from None


def _close_later(client: RemoteClient) -> None:
    async def close() -> None:
        with suppress(Exception):  # of a dead server
            await client.close()

    asyncio.run_coroutine_threadsafe(close(), _event_loop())


def list_remote_marks(url: str, seconds: float) -> list[str]:
    """Marks of all models that have stored chunks on a remote, sorted.

    Raises:
        ConfigError: the URL names no remote, or a package is missing.
        StoreError: the remote cannot be reached.
    """
    client = make_client(url, "", seconds)
    try:
        return run(client.marks, seconds)
    except Exception as error:  # a library may raise anything when a server is dead or lying
        reason = hide_in(f"{type(error).__name__}: {error}", url)
        raise StoreError(f"remote {hide(url)} cannot be used: {reason}") from None
    finally:
        with suppress(Exception):
            run(client.close, seconds)


class RemoteConnection:
    """Calls of one model's chunks on one server.

    Args:
        url: see `blend.store.remote.url`.
        mark: of the model.
        deadline_ms: of a call that a request waits for.
        meter: of this process.

    Attributes:
        name: the URL without its secrets.
        breaker: rejects calls after a failure; its `state`, `opened` and `skipped` tell how often.
        read_s, write_s: deadlines of calls that a request waits for, and of all others.

    Raises:
        ConfigError: the URL names no remote, or a package is missing.
    """

    def __init__(self, url: str, mark: str, deadline_ms: int, meter: Meter | None = None) -> None:
        self.name = hide(url)
        self.read_s = deadline_ms / 1e3
        self.write_s = max(MIN_WRITE_S, WRITE_FACTOR * self.read_s)
        self._url = url
        self._client = make_client(url, mark, self.write_s)
        self._slots = asyncio.Semaphore(MAX_CALLS)
        self._meter = meter or Meter()
        self._meter.add(FAILURES, 0)
        self.breaker = Breaker(f"remote {self.name}", self._probe, self._report)
        self._report(CLOSED)
        # A store that nobody closes leaves no connection open either.
        finalize(self, _close_later, self._client).atexit = False

    @property
    def failures(self) -> int:
        """Calls that failed, or missed their deadline."""
        return int(self._meter.total(FAILURES))

    @property
    def lists_cheaply(self) -> bool:
        """See `RemoteClient`."""
        return self._client.lists_cheaply

    def call(self, request: Request[T], seconds: float) -> T:
        """What a request to the client returns.

        Raises:
            UnreachableRemote: the server did not answer as it should, or the circuit is open.
            StoreError: the server answered, and refused.
        """
        if not self.breaker.allows():
            self._meter.add(SKIPPED, 1)
            raise UnreachableRemote(f"remote {self.name} does not work at the moment; see the log for why")
        try:
            return run(lambda: request(self._client), seconds, self._slots)
        except BlendError:
            raise
        except Exception as error:  # a library may raise anything when a server is dead, slow or lying
            self._meter.add(FAILURES, 1)
            reason = hide_in(f"{type(error).__name__}: {error}", self._url)
            self.breaker.failed(reason)
            raise UnreachableRemote(f"remote {self.name} cannot be used: {reason}") from None

    def read(self, request: Request[T], otherwise: T, seconds: float | None = None) -> T:
        """What a request returns, or `otherwise` when the server cannot be reached within the deadline.

        Args:
            seconds: the deadline, `read_s` unless given.
        """
        try:
            return self.call(request, seconds or self.read_s)
        except UnreachableRemote:
            return otherwise

    def write(self, request: Request[T]) -> T:
        """A call that no request waits for.

        Raises:
            UnreachableRemote, StoreError: as `call`.
        """
        return self.call(request, self.write_s)

    def close(self) -> None:
        """Leave the server, whether it works or not."""
        self.breaker.close()
        with suppress(Exception):  # of a dead server: nothing is left to do there
            run(self._client.close, self.write_s)

    def _report(self, state: str) -> None:
        self._meter.set(CIRCUIT_OPEN, state != CLOSED)

    def _probe(self) -> None:
        run(self._client.generation, self.read_s)
