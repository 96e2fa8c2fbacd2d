"""Pacing of ingestion: it rests in proportion to its work while requests run, and can be interrupted."""

import threading
import time
from collections.abc import Callable, Sequence

from retriever.embed import Embedder
from retriever.index import Vectors

LOOK_EVERY_S = 0.02
EMBED_AT_ONCE = 2
"""Texts embedded between two rests: tens of milliseconds on the cores that the engine decodes on."""


class Interrupted(Exception):
    """The run was interrupted; stored chunks stay, and the next run resumes from them."""


class Interruption:
    """A flag that interrupts the current run; any thread may set it."""

    def __init__(self) -> None:
        self._asked = threading.Event()

    def ask(self) -> None:
        """Interrupt the current run."""
        self._asked.set()

    def clear(self) -> None:
        """Reset the flag at the start of a run."""
        self._asked.clear()

    def heed(self) -> None:
        """Called by the run wherever it can stop.

        Raises:
            Interrupted: the flag is set.
        """
        if self._asked.is_set():
            raise Interrupted


class Pace:
    """Rests between pieces of work, so that work takes at most a share of the time while requests are served.

    Args:
        share: in (0, 1].
        is_busy: whether requests are being served.
    """

    def __init__(self, share: float, is_busy: Callable[[], bool]) -> None:
        self._share = share
        self.is_busy = is_busy

    def rest(self, worked_s: float, began_s: float) -> None:
        """Rest after a piece of work, as long as requests are being served.

        Args:
            worked_s: time that the work took of the engine or of its cores.
            began_s: `time.monotonic` when the work was requested: time in the queue counts as rest.
        """
        until_s = began_s + worked_s / self._share
        while self.is_busy() and (left_s := until_s - time.monotonic()) > 0:
            time.sleep(min(left_s, LOOK_EVERY_S))


class PacedEmbedder:
    """An embedder that rests between texts; implements `retriever.embed.Embedder`."""

    def __init__(self, embedder: Embedder, pace: Pace, interruption: Interruption) -> None:
        self._embedder = embedder
        self._pace = pace
        self._interruption = interruption
        self.name = embedder.name
        self.dim = embedder.dim

    def embed(self, texts: Sequence[str]) -> Vectors:
        """As `Embedder.embed`.

        Raises:
            Interrupted: the run was interrupted.
        """
        import numpy as np

        parts = [np.empty((0, self.dim), dtype=np.float32)]
        for start in range(0, len(texts), EMBED_AT_ONCE):
            self._interruption.heed()
            begin_s = time.monotonic()
            parts.append(self._embedder.embed(texts[start : start + EMBED_AT_ONCE]))
            self._pace.rest(time.monotonic() - begin_s, begin_s)
        return np.concatenate(parts)
