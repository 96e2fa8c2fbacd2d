"""Copies a chunk into the tier in front, layer by layer as it is read from the tier behind."""

import logging
import time
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING

import torch

from blend.chunks.chunk import ChunkKV
from blend.store.tiers.place import Place

if TYPE_CHECKING:
    from blend.store.handle import ChunkHandle

logger = logging.getLogger(__name__)

Rows = tuple[torch.Tensor, torch.Tensor]
"""Keys and values."""


class Promotion:
    """The copy of one chunk in a place, and what happens when its last layer has been copied. Thread-safe.

    Args:
        place: the copy's device and heads.
        max_bytes: a larger chunk is passed through and not copied; so is a chunk that the device has no
            room for.
        keep: takes the whole chunk, once, and the seconds that copying took.

    Attributes:
        rows: keys and values, [L, T, h, D] each; None before the first layer, or if passed through.
    """

    def __init__(self, place: Place, max_bytes: int, keep: Callable[[ChunkKV, float], None]) -> None:
        self.rows: Rows | None = None
        self._place = place
        self._max_bytes = max_bytes
        self._keep = keep
        self._is_passed_through = False
        self._copied: set[int] = set()
        self._copying_s = 0.0
        self._lock = Lock()

    def layer(self, index: int) -> Rows | None:
        """The copied rows [T, h, D] of a layer, or None before it was copied."""
        if index not in self._copied:
            return None
        assert self.rows is not None
        return self.rows[0][index], self.rows[1][index]

    def take(self, index: int, rows: Rows, handle: "ChunkHandle") -> Rows:
        """Copy a layer [T, H, D], and return what to use in its place.

        It copies outside the lock: threads read layers side by side. A second copy writes the same bits.

        Args:
            handle: of the chunk that the layer belongs to.
        """
        keys, values = (each[:, self._place.heads] for each in rows)
        begin = time.perf_counter()
        room = self._room(handle.num_layers, keys)
        if room is None:
            return keys, values
        with self._place.copying():
            for into, one in zip(room, (keys, values), strict=True):
                into[index].copy_(one)
        self._note(index, time.perf_counter() - begin, handle)
        return room[0][index], room[1][index]

    def _room(self, num_layers: int, layer: torch.Tensor) -> Rows | None:
        with self._lock:
            if self.rows is None and not self._is_passed_through:
                self._is_passed_through = 2 * num_layers * layer.nbytes > self._max_bytes
            if self.rows is None and not self._is_passed_through:
                try:
                    self.rows = self._place.space(num_layers, layer), self._place.space(num_layers, layer)
                except torch.OutOfMemoryError:
                    logger.warning("no room on %s for a chunk; lower the tier's budget", self._place.device)
                    self._is_passed_through = True
            return self.rows

    def _note(self, index: int, copying_s: float, handle: "ChunkHandle") -> None:
        with self._lock:
            if index in self._copied:
                return
            self._copied.add(index)
            self._copying_s += copying_s
            is_whole = len(self._copied) == handle.num_layers
        if is_whole:
            assert self.rows is not None
            self._keep(ChunkKV(handle.record, *self.rows, handle.is_lossless), self._copying_s)
