"""A circuit breaker: what has failed is left alone, and tried again in the background.

Written here because a request may neither wait for another's call nor be the one that tries again: of the
libraries, pybreaker holds one lock around every call, and all of them let the next caller pay for the trial.
"""

import logging
import time
from collections.abc import Callable
from threading import Event, Lock, Thread

logger = logging.getLogger(__name__)

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half-open"

FIRST_WAIT_S = 0.5
MAX_WAIT_S = 4.0
"""Between two trials; with a trial's own deadline it keeps what has come back from waiting for 10 s."""


class Breaker:
    """Whether something may be called. Thread-safe; nothing here ever blocks a caller.

    One failure opens it: a caller that waited for a deadline is enough. Then a thread of its own tries the
    thing until that succeeds. When it fails again before anything else has succeeded, the wait goes on
    growing from where it was, so that what answers trials and nothing else is not used every half second.

    Args:
        name: of the thing, for the log; one line there for each time it is given up or used again.
        trial: raises when the thing does not work.
        tell: is called with the state when the thing is given up, and when it is used again.

    Attributes:
        state: `CLOSED` (in use), `OPEN` (left alone) or `HALF_OPEN` (being tried).
        opened: how often it was given up.
        skipped: calls that were not made for that reason.
    """

    def __init__(
        self, name: str, trial: Callable[[], object], tell: Callable[[str], object] = lambda state: None
    ) -> None:
        self.state = CLOSED
        self.opened = 0
        self.skipped = 0
        self._name = name
        self._trial = trial
        self._tell = tell
        self._wait_s = FIRST_WAIT_S
        self._stopped = Event()
        self._lock = Lock()

    def allows(self) -> bool:
        """Whether to call now; counts what is not called."""
        if self.state == CLOSED:
            return True
        with self._lock:
            self.skipped += 1
        return False

    def succeeded(self) -> None:
        """A call did what it should."""
        self._wait_s = FIRST_WAIT_S

    def failed(self, reason: str) -> None:
        """A call did not: leave the thing alone until a trial succeeds."""
        with self._lock:
            if self.state != CLOSED:
                return
            self.state = OPEN
            self.opened += 1
        self._tell(OPEN)
        logger.warning(
            "%s is left alone until it works again, chunks come from elsewhere: %s", self._name, reason
        )
        Thread(target=self._recover, name="kvblend-breaker", daemon=True).start()

    def close(self) -> None:
        """Try nothing any more."""
        self._stopped.set()

    def _recover(self) -> None:
        begun = time.monotonic()
        while not self._stopped.wait(self._wait_s):
            self._wait_s = min(2 * self._wait_s, MAX_WAIT_S)
            self.state = HALF_OPEN
            try:
                self._trial()
            except Exception:  # whatever it is: a thing that does not work may raise anything
                self.state = OPEN
                continue
            self._tell(CLOSED)
            self.state = CLOSED
            logger.warning("%s is used again after %.1f s", self._name, time.monotonic() - begun)
            return
