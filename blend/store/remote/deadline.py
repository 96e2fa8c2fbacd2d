"""Calls that are given up when they take too long, whatever the client that makes them thinks of time."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Semaphore, Thread
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_CALLS = 16
"""In progress at once, those that were given up and have not noticed included."""


class Deadline:
    """A moment by which an operation of several calls must be done.

    Args:
        seconds: from now.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._until = time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        """Seconds till then, never less than nothing."""
        return max(0.0, self._until - time.monotonic())

    def missed(self) -> TimeoutError:
        """What is raised when it has passed."""
        return TimeoutError(f"no answer within {self.seconds * 1e3:.0f} ms")


class Allowance:
    """Time that calls may take in all, what passes between them not counted.

    Args:
        seconds: of all calls together.
    """

    def __init__(self, seconds: float) -> None:
        self._left_s = seconds

    @contextmanager
    def spending(self) -> Iterator[Deadline]:
        """A deadline for what is left; what the block takes is taken off."""
        begun = time.monotonic()
        try:
            yield Deadline(self._left_s)
        finally:
            self._left_s = max(0.0, self._left_s - (time.monotonic() - begun))


class Caller:
    """Makes calls on threads of their own, so that whoever waits for one can stop waiting.

    A timeout of sockets is no deadline: a server that sends a byte now and then never misses it.

    Args:
        give_up: told when a call was given up, to end it where that is possible.
    """

    def __init__(self, give_up: Callable[[], None]) -> None:
        self._give_up = give_up
        self._free = Semaphore(MAX_CALLS)

    def call(self, function: Callable[[], T], deadline: Deadline) -> T:
        """What the function returns.

        Raises:
            TimeoutError: it did not return in time; what it still does goes on unheeded.
            Exception: what it raises.
        """
        if not self._free.acquire(timeout=deadline.left_s):
            raise deadline.missed()
        call = _Call(function, self._free)
        call.start()
        call.join(deadline.left_s)
        if call.is_alive():
            self._give_up()
            raise deadline.missed()
        return call.outcome()


class _Call(Thread, Generic[T]):
    def __init__(self, function: Callable[[], T], free: Semaphore) -> None:
        super().__init__(name="kvblend-remote", daemon=True)  # a call that never ends must not keep a process
        self._function = function
        self._free = free
        self._returned: list[T] = []
        self._raised: Exception | None = None

    def run(self) -> None:
        try:
            self._returned.append(self._function())
        except Exception as error:  # handed over to who waits
            self._raised = error
        finally:
            self._free.release()

    def outcome(self) -> T:
        if self._raised is not None:
            raise self._raised
        return self._returned[0]
