"""Which of some chunks share text with others: a prompt may hold it twice, and needs their echoes.

Runs of tokens are known by a hash. A quarter of these is kept, chosen by their own values, so that equal text
keeps equal hashes wherever it stands (Manber, Finding similar files in a large file system, 1994).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

RUN_TOKENS = 32
"""Less is a phrase, and no text that was copied."""
LEAST_SHARE = 1 / 16
"""Of a chunk's runs, that stand in other chunks too: a footer on every page is not worth another version."""
_KEPT_OF = 4
_FACTOR = np.uint64(0x9E3779B97F4A7C15)

Marks = npt.NDArray[np.uint64]


class SharedText:
    """Chunks are added one after the other; who shares text is known when all are there."""

    def __init__(self) -> None:
        self._marks: dict[str, Marks] = {}

    def add(self, key: str, token_ids: Sequence[int]) -> None:
        """A chunk; a no-op where it is known."""
        if key not in self._marks:
            self._marks[key] = marks(token_ids)

    def keys(self) -> frozenset[str]:
        """Keys of those that share enough of their text with others."""
        if not self._marks:
            return frozenset()
        found, counts = np.unique(np.concatenate(list(self._marks.values())), return_counts=True)
        shared = found[counts > 1]
        return frozenset(
            key for key, own in self._marks.items() if len(own) and np.isin(own, shared).mean() >= LEAST_SHARE
        )


def marks(token_ids: Sequence[int]) -> Marks:
    """Hashes of some of a chunk's runs, each once, ascending."""
    ids = np.asarray(token_ids, dtype=np.uint64)
    num = max(0, len(ids) - RUN_TOKENS + 1)
    hashes = np.zeros(num, dtype=np.uint64)
    for place in range(RUN_TOKENS):
        hashes = hashes * _FACTOR + ids[place : place + num]
    hashes ^= hashes >> np.uint64(29)
    hashes *= _FACTOR
    hashes ^= hashes >> np.uint64(32)
    return np.unique(hashes[hashes % np.uint64(_KEPT_OF) == 0])
