"""Finds chunks that share text with other chunks: a prompt may hold that text twice, and needs their echoes.

Runs of tokens are hashed. A quarter of the hashes is kept, chosen by value, so that equal text keeps equal
hashes wherever it stands (Manber, Finding similar files in a large file system, 1994).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

RUN_TOKENS = 32
"""Length of a run. Shorter runs are phrases that recur by chance, not copied text."""
MIN_SHARE = 1 / 16
"""Minimum share of a chunk's runs that also stand in other chunks: a footer is not worth an echo."""
_KEPT_OF = 4
_FACTOR = np.uint64(0x9E3779B97F4A7C15)

Hashes = npt.NDArray[np.uint64]


class SharedText:
    """Chunks are added one after the other; which ones share text is known when all are added."""

    def __init__(self) -> None:
        self._hashes: dict[str, Hashes] = {}

    def add(self, key: str, token_ids: Sequence[int]) -> None:
        """Add a chunk; does nothing when it was added before."""
        if key not in self._hashes:
            self._hashes[key] = run_hashes(token_ids)

    def keys(self) -> frozenset[str]:
        """Keys of the chunks that share enough of their text with other chunks."""
        if not self._hashes:
            return frozenset()
        found, counts = np.unique(np.concatenate(list(self._hashes.values())), return_counts=True)
        shared = found[counts > 1]
        return frozenset(
            key for key, own in self._hashes.items() if len(own) and np.isin(own, shared).mean() >= MIN_SHARE
        )


def run_hashes(token_ids: Sequence[int]) -> Hashes:
    """Hashes of some of a chunk's runs, without duplicates, ascending."""
    ids = np.asarray(token_ids, dtype=np.uint64)
    num = max(0, len(ids) - RUN_TOKENS + 1)
    hashes = np.zeros(num, dtype=np.uint64)
    for place in range(RUN_TOKENS):
        hashes = hashes * _FACTOR + ids[place : place + num]
    hashes ^= hashes >> np.uint64(29)
    hashes *= _FACTOR
    hashes ^= hashes >> np.uint64(32)
    return np.unique(hashes[hashes % np.uint64(_KEPT_OF) == 0])
