"""Last uses and pins of a remote's chunks, and their eviction."""

import time
from threading import Lock, Timer

from blend.store.remote.connection import RemoteConnection
from blend.store.tiers.tier_meter import EVICTIONS, TierMeter

TELL_S = 2.0
"""Delay after which uses are reported to the server, all in one call."""
PINS_S = 5.0
"""Age at which the known pins are read again from the server."""


class RemoteUses:
    """Uses and pins of one model's chunks. Thread-safe.

    Args:
        connection: to the server.
        meter: of the tier.
    """

    def __init__(self, connection: RemoteConnection, meter: TierMeter) -> None:
        self._meter = meter
        self._connection = connection
        self._touched: dict[str, None] = {}  # in order of use
        self._teller: Timer | None = None
        self._pins: set[str] = set()
        self._pins_read_s = float("-inf")
        self._lock = Lock()

    @property
    def evicted(self) -> int:
        """Chunks that were evicted since the store was opened."""
        return self._meter.total(EVICTIONS)

    def note(self, chunk_id: str) -> None:
        """Record that a chunk was used; the server learns of it soon, in the background."""
        with self._lock:
            self._touched.pop(chunk_id, None)
            self._touched[chunk_id] = None
            if self._teller is None:
                self._teller = Timer(TELL_S, self.tell)
                self._teller.daemon = True
                self._teller.start()

    def tell(self) -> None:
        """Report the uses now. A request must not call this: it may take as long as a write."""
        with self._lock:
            used, self._touched, self._teller = list(self._touched), {}, None
        if used:
            connection = self._connection
            connection.read(lambda client: client.touch(used), None, connection.write_s)

    def pin(self, chunk_id: str) -> None:
        """Set a pin.

        Raises:
            StoreError: the server cannot be reached.
        """
        self._connection.write(lambda client: client.pin(chunk_id))
        self._pins.add(chunk_id)

    def unpin(self, chunk_id: str) -> None:
        """Remove a pin.

        Raises:
            StoreError: the server cannot be reached.
        """
        self._connection.write(lambda client: client.unpin(chunk_id))
        self._pins.discard(chunk_id)

    def pins(self) -> set[str]:
        """All pins, at most `PINS_S` old: eviction asks for every chunk."""
        now = time.monotonic()
        if now - self._pins_read_s > PINS_S:
            self._pins_read_s = now
            self._pins = set(self._connection.read(lambda client: client.pins(), self._pins))
        return self._pins

    def make_room(self, num_bytes: int, budget_bytes: int, chunk_id: str | None = None) -> list[str]:
        """Evict until a file of this size fits into the budget; returns the evicted ids.

        Args:
            chunk_id: the file's, when it is about to be written.

        Raises:
            StoreError: the server cannot be reached.
        """
        self.tell()
        call = self._connection.write
        is_cheap = self._connection.lists_cheaply
        if is_cheap and call(lambda client: client.num_bytes()) + num_bytes <= budget_bytes:
            return []
        entries = [one for one in call(lambda client: client.entries()) if one.chunk_id != chunk_id]
        excess = sum(entry.num_bytes for entry in entries) + num_bytes - budget_bytes
        pins = call(lambda client: client.pins())
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
        self._connection.write(lambda client: client.drop(chunk_id))
