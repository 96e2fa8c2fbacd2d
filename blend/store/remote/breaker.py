"""Circuit breaker: after a failure, reject calls until a background probe succeeds.

Written here because a request may neither wait for another request's call nor make the probe itself. Of the
libraries, pybreaker holds one lock around every call, and all of them let the next caller pay for the probe.
"""

import logging
import time
from collections.abc import Callable
from threading import Event, Lock, Thread

logger = logging.getLogger(__name__)

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half-open"

FIRST_WAIT_S = 0.5
MAX_WAIT_S = 4.0
"""Longest wait between two probes: with a probe's own deadline, a server is used again within 10 s."""


class Breaker:
    """Says whether a service may be called. Thread-safe; no method blocks its caller.

    One failure opens the circuit: one caller that waited for a deadline is enough. A thread then probes the
    service until a probe succeeds. The wait between probes grows until a call succeeds, so that a service
    that answers probes and nothing else is not called every half second.

    Args:
        name: of the service, for the log: a line when the circuit opens, and a line when it closes.
        probe: raises when the service does not work.
        report: called with the state when the circuit opens and when it closes.

    Attributes:
        state: `CLOSED` (calls go through), `OPEN` (calls are rejected) or `HALF_OPEN` (a probe runs).
        opened: number of times that the circuit opened.
        skipped: number of rejected calls.
    """

    def __init__(
        self, name: str, probe: Callable[[], object], report: Callable[[str], object] = lambda state: None
    ) -> None:
        self.state = CLOSED
        self.opened = 0
        self.skipped = 0
        self._name = name
        self._probe = probe
        self._report = report
        self._wait_s = FIRST_WAIT_S
        self._stopped = Event()
        self._lock = Lock()

    def allows(self) -> bool:
        """Whether to call now; counts rejected calls."""
        if self.state == CLOSED:
            return True
        with self._lock:
            self.skipped += 1
        return False

    def succeeded(self) -> None:
        """Record that a call did its work."""
        self._wait_s = FIRST_WAIT_S

    def failed(self, reason: str) -> None:
        """Record that a call failed, and open the circuit."""
        with self._lock:
            if self.state != CLOSED:
                return
            self.state = OPEN
            self.opened += 1
        self._report(OPEN)
        logger.warning("%s failed and is not used until a probe succeeds: %s", self._name, reason)
        Thread(target=self._recover, name="kvblend-breaker", daemon=True).start()

    def close(self) -> None:
        """Stop probing."""
        self._stopped.set()

    def _recover(self) -> None:
        begun = time.monotonic()
        while not self._stopped.wait(self._wait_s):
            self._wait_s = min(2 * self._wait_s, MAX_WAIT_S)
            self.state = HALF_OPEN
            try:
                self._probe()
            except Exception:  # a service that does not work may raise anything
                self.state = OPEN
                continue
            self._report(CLOSED)
            self.state = CLOSED
            logger.warning("%s is used again after %.1f s", self._name, time.monotonic() - begun)
            return
