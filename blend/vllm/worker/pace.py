"""How much of a blend may run in an engine step while other requests decode."""

import time
from collections import deque
from collections.abc import Callable

SHARE = 0.8
"""Time budget per waiting blend, as a fraction of a decode step's own time. With one waiting blend, the time
between two tokens at most doubles; a request that waits for its first token counts as much as all
decoding."""

BACKGROUND = 0.5
"""Weight of chunks that are computed for no request in particular, in waiting blends."""

REMEMBERED_STEPS = 8


class Pace:
    """Measures how long engine steps take by themselves, and bounds the slices of a blend by that.

    ::

        begin(1)  slice  may_go_on()  slice  may_go_on() = False  end()  ...the step's forward...  stepped()

    Args:
        now: the clock, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._step_s: deque[float] = deque(maxlen=REMEMBERED_STEPS)
        self._began_s = self._slice_s = 0.0
        self._share = SHARE
        self._ended_s: float | None = None

    def begin(self, waiting: float) -> None:
        """A step begins. Its first slice always runs, otherwise a blend would never end.

        Args:
            waiting: number of requests that wait for blends, or `BACKGROUND`.
        """
        self._share = SHARE * waiting
        self._began_s = self._slice_s = self._now()

    def may_go_on(self) -> bool:
        """Whether one more slice, as long as the last one, still fits into this step's budget."""
        now = self._now()
        last_s, self._slice_s = now - self._slice_s, now
        # The shortest of the last steps only decoded; the others prefilled as well.
        allowed_s = self._share * min(self._step_s, default=0.0)
        return now - self._began_s + last_s <= allowed_s

    def end(self) -> None:
        """No more slices; the step's own forward follows."""
        self._ended_s = self._now()

    def stepped(self) -> None:
        """The step's own forward is done. Does nothing unless `end` was called before."""
        if self._ended_s is not None:
            self._step_s.append(self._now() - self._ended_s)
            self._ended_s = None
