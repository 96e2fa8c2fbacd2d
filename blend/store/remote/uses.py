"""What of a remote's chunks was used, what is pinned, and what goes when room is needed."""

import time
from threading import Lock, Timer

from blend.store.remote.line import RemoteLine
from blend.store.tiers.tier_meter import EVICTIONS, TierMeter

TELL_S = 2.0
"""So long after a use the server is told of it, and of those that came meanwhile."""
PINS_S = 5.0
"""Pins that others set or take off are noticed so late."""


class RemoteUses:
    """Uses and pins of one model's chunks. Thread-safe.

    Args:
        line: to the server.
        meter: of the tier.
    """

    def __init__(self, line: RemoteLine, meter: TierMeter) -> None:
        self._meter = meter
        self._line = line
        self._client = line.client
        self._touched: dict[str, None] = {}  # in order of use
        self._teller: Timer | None = None
        self._pins: set[str] = set()
        self._pins_read_s = float("-inf")
        self._lock = Lock()

    @property
    def evicted(self) -> int:
        """Chunks that went for want of room since the store was opened."""
        return self._meter.total(EVICTIONS)

    def note(self, chunk_id: str) -> None:
        """A chunk was used: the server is told soon, in the background."""
        with self._lock:
            self._touched.pop(chunk_id, None)
            self._touched[chunk_id] = None
            if self._teller is None:
                self._teller = Timer(TELL_S, self.tell)
                self._teller.daemon = True
                self._teller.start()

    def tell(self) -> None:
        """Tell the server now. Not for a request to call."""
        with self._lock:
            used, self._touched, self._teller = list(self._touched), {}, None
        if used:
            self._line.ask(lambda: self._client.touch(used), None, self._line.write_s)

    def pin(self, chunk_id: str) -> None:
        """Set a pin.

        Raises:
            StoreError: the server cannot be reached.
        """
        self._line.write(lambda: self._client.pin(chunk_id))
        self._pins.add(chunk_id)

    def unpin(self, chunk_id: str) -> None:
        """Take one off.

        Raises:
            StoreError: the server cannot be reached.
        """
        self._line.write(lambda: self._client.unpin(chunk_id))
        self._pins.discard(chunk_id)

    def pins(self) -> set[str]:
        """All pins, as of a moment ago: what evicts asks this of chunk after chunk."""
        now = time.monotonic()
        if now - self._pins_read_s > PINS_S:
            self._pins_read_s = now
            self._pins = set(self._line.ask(self._client.pins, self._pins))
        return self._pins

    def make_room(self, num_bytes: int, budget_bytes: int, chunk_id: str | None = None) -> list[str]:
        """Evict until a file of this size keeps within the budget; returns the ids that went.

        Args:
            chunk_id: the file's, when it is about to be written.

        Raises:
            StoreError: the server cannot be reached.
        """
        self.tell()
        line, client = self._line, self._client
        if client.lists_cheaply and line.write(client.used_bytes) + num_bytes <= budget_bytes:
            return []
        entries = [entry for entry in line.write(client.entries) if entry.chunk_id != chunk_id]
        excess = sum(entry.num_bytes for entry in entries) + num_bytes - budget_bytes
        pins = line.write(client.pins)
        evicted = []
        for entry in sorted(entries, key=lambda entry: entry.chunk_id in pins):  # stable: by use within
            if excess <= 0:
                break
            self._drop(entry.chunk_id)
            excess -= entry.num_bytes
            evicted.append(entry.chunk_id)
            self._meter.evicted()
        return evicted

    def _drop(self, chunk_id: str) -> None:
        self._line.write(lambda: self._client.drop(chunk_id))
