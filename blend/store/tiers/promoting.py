"""A chunk that is read layer by layer from the tier behind, and kept once it was read whole."""

import logging
import time
from collections.abc import Callable
from threading import Lock

import torch

from blend.chunks.chunk import ChunkKV, ChunkRecord
from blend.store.base import ChunkReader
from blend.store.tiers.place import Place

logger = logging.getLogger(__name__)


class PromotingChunk:
    """Implements `blend.store.base.ChunkReader`; each layer is read from the tier behind once.

    What it gives is a copy in its place, never a view of a mapped file.

    Args:
        behind: reader of the tier behind.
        keep: takes the whole chunk, once, and the seconds that copying it took.
        place: where the copy is.
        most_bytes: a larger chunk is given as the tier behind gives it, and not kept; and so is one for which
            the place has no room.
    """

    def __init__(
        self,
        behind: ChunkReader,
        keep: Callable[[ChunkKV, float], None],
        place: Place,
        most_bytes: int,
    ) -> None:
        self._behind = behind
        self._keep = keep
        self._place = place
        self._most_bytes = most_bytes
        self._is_passed_on = False
        self._rows: tuple[torch.Tensor, torch.Tensor] | None = None  # keys and values, [L, T, h, D] each
        self._read: set[int] = set()
        self._copying_s = 0.0
        self._lock = Lock()

    @property
    def record(self) -> ChunkRecord:
        return self._behind.record

    @property
    def num_layers(self) -> int:
        return self._behind.num_layers

    @property
    def is_lossless(self) -> bool:
        return self._behind.is_lossless

    def layer(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values [T, H, D] of one layer.

        Raises:
            CorruptChunk: this layer failed its check. The entry has been dropped.
        """
        if index not in self._read:
            # Read outside the lock: layers come in side by side. A second copy of one writes the same bits.
            keys, values = (rows[:, self._place.heads] for rows in self._behind.layer(index))
            begin = time.perf_counter()
            space = self._space(keys)
            if space is None:
                return keys, values
            own_keys, own_values = space
            with self._place.copying():
                own_keys[index].copy_(keys)
                own_values[index].copy_(values)
            self._note(index, time.perf_counter() - begin)
        assert self._rows is not None
        return self._rows[0][index], self._rows[1][index]

    def chunk(self) -> ChunkKV:
        """All of it.

        Raises:
            CorruptChunk: a check failed. The entry has been dropped.
        """
        layers = [self.layer(index) for index in range(self.num_layers)]
        if self._rows is None:
            keys, values = (torch.stack(rows) for rows in zip(*layers, strict=True))
            return ChunkKV(self.record, keys, values, self.is_lossless)
        return ChunkKV(self.record, *self._rows, self.is_lossless)

    def _space(self, layer: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
        with self._lock:
            if self._rows is None and not self._is_passed_on:
                size = 2 * self.num_layers * layer.nbytes
                self._is_passed_on = size > self._most_bytes
            if self._rows is None and not self._is_passed_on:
                try:
                    keys, values = (self._place.space(self.num_layers, layer) for _ in range(2))
                    self._rows = keys, values
                except torch.OutOfMemoryError:
                    logger.warning("no room on %s for a chunk; lower the tier's budget", self._place.device)
                    self._is_passed_on = True
            return self._rows

    def _note(self, index: int, copying_s: float) -> None:
        with self._lock:
            if index in self._read:
                return
            self._read.add(index)
            self._copying_s += copying_s
            whole = len(self._read) == self.num_layers
        if whole:
            self._keep(self.chunk(), self._copying_s)
