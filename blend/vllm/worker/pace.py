"""How much of a blend an engine step may take while other requests decode in it."""

import time
from collections import deque
from collections.abc import Callable

SHARE = 0.8
"""Of a decoding step's own time, for each request that waits for its blend: with one of them, no token comes
more than twice as late as without. Whoever waits for a first token counts as much as all that decode."""

BACKGROUND = 0.5
"""Counts as so much of a request that waits: chunks that are computed for nobody in particular."""

REMEMBERED_STEPS = 8


class Pace:
    """Watches how long engine steps take by themselves, and lets a blend take no longer.

    ::

        begin(1)  slice  may_go_on()  slice  may_go_on() = False  end()  ...the step's forward...  stepped()

    Args:
        now: the clock, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._own_s: deque[float] = deque(maxlen=REMEMBERED_STEPS)
        self._began_s = self._slice_s = 0.0
        self._share = SHARE
        self._ended_s: float | None = None

    def begin(self, waiting: float) -> None:
        """A step begins; its first slice is always run, or a blend would never end.

        Args:
            waiting: requests that wait for blends, or `BACKGROUND`.
        """
        self._share = SHARE * waiting
        self._began_s = self._slice_s = self._now()

    def may_go_on(self) -> bool:
        """Whether one more slice, as long as the last one, still fits into this step."""
        now = self._now()
        last_s, self._slice_s = now - self._slice_s, now
        # The shortest of the last steps decoded only; others prefilled as well.
        allowed_s = self._share * min(self._own_s, default=0.0)
        return now - self._began_s + last_s <= allowed_s

    def end(self) -> None:
        """No more slices; the step's own forward follows."""
        self._ended_s = self._now()

    def stepped(self) -> None:
        """The step's own forward is done; nothing happens where none was announced by `end`."""
        if self._ended_s is not None:
            self._own_s.append(self._now() - self._ended_s)
            self._ended_s = None
