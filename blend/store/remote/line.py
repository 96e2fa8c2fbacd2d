"""The line to a server: every call has a deadline, and what has failed is left alone for a while."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from blend.errors import BlendError, StoreError
from blend.report.metrics import Kind, Meter, Metric
from blend.store.remote.breaker import CLOSED, Breaker
from blend.store.remote.deadline import Caller, Deadline
from blend.store.remote.url import hide, hide_in, make_client

T = TypeVar("T")

WRITE_FACTOR = 10
"""What no request waits for may take so many deadlines."""
MIN_WRITE_S = 5.0

FAILURES = Metric(
    "kvblend_remote_failures", Kind.COUNTER, "Calls that the remote did not answer as it should."
)
SKIPPED = Metric(
    "kvblend_remote_skipped", Kind.COUNTER, "Calls that were not made, since the remote is left alone."
)
LEFT_ALONE = Metric("kvblend_remote_left_alone", Kind.GAUGE, "1 while the remote is left alone, else 0.")

METRICS = (FAILURES, SKIPPED, LEFT_ALONE)
"""Of the line to a remote."""


class UnreachableRemote(StoreError):
    """The remote is dead, slow or lying, or was so a moment ago."""


@dataclass(slots=True)
class Traffic:
    """What went over the wire in one direction, as plain counters.

    Attributes:
        num_bytes: of chunks' files.
        seconds: spent in calls.
    """

    chunks: int = 0
    num_bytes: int = 0
    seconds: float = 0.0


class RemoteLine:
    """Calls to one model's chunks on one server.

    Args:
        url: see `blend.store.remote.url`.
        mark: of the model.
        deadline_ms: of what a request waits for.
        meter: of this process.

    Attributes:
        name: the URL without its secrets.
        client: what is called.
        breaker: whether calls are made at all.
        read_s, write_s: deadlines of what a request waits for, and of everything else.

    Raises:
        ConfigError: the URL names no remote, or a package is missing.
    """

    def __init__(self, url: str, mark: str, deadline_ms: int, meter: Meter | None = None) -> None:
        self.name = hide(url)
        self.read_s = deadline_ms / 1e3
        self.write_s = max(MIN_WRITE_S, WRITE_FACTOR * self.read_s)
        self.client = make_client(url, mark, self.write_s)
        self._url = url
        self._caller = Caller(self.client.give_up)
        self._meter = meter or Meter()
        self._meter.add(FAILURES, 0)
        self.breaker = Breaker(f"remote {self.name}", self._try, self._now)
        self._now(CLOSED)

    @property
    def failures(self) -> int:
        """Calls that the server did not answer as it should."""
        return int(self._meter.total(FAILURES))

    def call(self, function: Callable[[], T], deadline: Deadline, traffic: Traffic | None = None) -> T:
        """What a call returns.

        Args:
            traffic: its time is counted there.

        Raises:
            UnreachableRemote: the server did not answer as it should, or is left alone at the moment.
            StoreError: it answered, and refused.
        """
        if not self.breaker.allows():
            self._meter.add(SKIPPED, 1)
            raise UnreachableRemote(f"remote {self.name} does not work at the moment; see the log for why")
        begun = time.monotonic()
        try:
            return self._caller.call(function, deadline)
        except BlendError:
            raise
        except Exception as error:  # one that is dead, slow or lying makes a client raise anything
            self._meter.add(FAILURES, 1)
            reason = hide_in(f"{type(error).__name__}: {error}", self._url)
            self.breaker.failed(reason)
            raise UnreachableRemote(f"remote {self.name} cannot be used: {reason}") from None
        finally:
            if traffic is not None:
                traffic.seconds += time.monotonic() - begun

    def ask(self, function: Callable[[], T], otherwise: T, seconds: float | None = None) -> T:
        """What the server says, or something else where it says nothing."""
        try:
            return self.call(function, Deadline(seconds or self.read_s))
        except UnreachableRemote:
            return otherwise

    def write(self, function: Callable[[], T], traffic: Traffic | None = None) -> T:
        """A call that no request waits for.

        Raises:
            UnreachableRemote, StoreError: as `call`.
        """
        return self.call(function, Deadline(self.write_s), traffic)

    def close(self) -> None:
        """Leave the server, whether it works or not."""
        self.breaker.close()
        with suppress(Exception):  # whatever a dead one makes of it: nothing is left to be done there
            self._caller.call(self.client.close, Deadline(self.write_s))

    def _now(self, state: str) -> None:
        self._meter.set(LEFT_ALONE, state != CLOSED)

    def _try(self) -> None:
        self._caller.call(self.client.generation, Deadline(self.read_s))
