"""How ingestion leaves the engine to requests: it rests in proportion to its work, and stops when asked."""

import threading
import time
from collections.abc import Callable, Sequence

from retriever.embed import Embedder
from retriever.index import Vectors

LOOK_EVERY_S = 0.02
EMBED_AT_ONCE = 2
"""Texts: some tens of milliseconds on the cores that the engine decodes on."""


class Interrupted(Exception):
    """The run was asked to stop; what it has stored stays, and the next run goes on from there."""


class Interruption:
    """A wish of the server's to have the present run stopped; any thread may say so."""

    def __init__(self) -> None:
        self._asked = threading.Event()

    def ask(self) -> None:
        """Have the run stopped that goes on now."""
        self._asked.set()

    def clear(self) -> None:
        """A new run begins, which nobody has asked to stop."""
        self._asked.clear()

    def heed(self) -> None:
        """Called by the run wherever it can stop.

        Raises:
            Interrupted: it is to.
        """
        if self._asked.is_set():
            raise Interrupted


class Pace:
    """Rests between pieces of work, so that work takes no more than a share of the time while others wait.

    Args:
        share: in (0, 1].
        is_busy: whether requests are being served.
    """

    def __init__(self, share: float, is_busy: Callable[[], bool]) -> None:
        self._share = share
        self.is_busy = is_busy

    def rest(self, worked_s: float, began_s: float) -> None:
        """Wait as long as a piece of work calls for; not, or no longer, when nobody is being served.

        Args:
            worked_s: what it took of the engine, or of its cores.
            began_s: when it was asked for, by `time.monotonic`: to wait for one's turn is to rest, too.
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
        """As the embedder does it.

        Raises:
            Interrupted: the run is to stop.
        """
        import numpy as np

        parts = [np.empty((0, self.dim), dtype=np.float32)]
        for start in range(0, len(texts), EMBED_AT_ONCE):
            self._interruption.heed()
            begin_s = time.monotonic()
            parts.append(self._embedder.embed(texts[start : start + EMBED_AT_ONCE]))
            self._pace.rest(time.monotonic() - begin_s, begin_s)
        return np.concatenate(parts)
