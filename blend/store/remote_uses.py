"""Uses and pins of chunks on a server, and which of them go for want of room."""

import time
from collections.abc import Iterator
from functools import partial
from threading import Lock, Timer

from blend.store.ledger import Entry
from blend.store.remote_line import RemoteLine

TELL_S = 2.0
"""So long after a use the server is told of it, and of those that came meanwhile."""
PINS_S = 5.0
"""Pins that others set or take off are noticed so late."""


class RemoteUses:
    """Uses and pins of one model's chunks on a server. Ids are those of chunks.

    Args:
        line: to the server.
    """

    def __init__(self, line: RemoteLine) -> None:
        self._line = line
        self._client = line.client
        self._touched: dict[str, None] = {}  # in order of use
        self._teller: Timer | None = None
        self._pins: set[str] = set()
        self._pins_read_s = float("-inf")
        self._lock = Lock()

    def touch(self, chunk_id: str) -> None:
        """Note that a chunk was used; the server is told soon, in the background."""
        with self._lock:
            self._touched.pop(chunk_id, None)
            self._touched[chunk_id] = None
            if self._teller is None:
                self._teller = Timer(TELL_S, self.tell)
                self._teller.daemon = True
                self._teller.start()

    def tell(self) -> None:
        """Tell the server now what was used since it was last told. Not for a request to call."""
        with self._lock:
            used, self._touched, self._teller = list(self._touched), {}, None
        if used:
            self._line.ask(lambda: self._client.touch(used), None, self._line.write_s)

    def pin(self, chunk_id: str) -> None:
        """Evict this id after all others, in whatever process.

        Raises:
            StoreError: the server cannot be reached.
        """
        self._line.write(lambda: self._client.pin(chunk_id))
        self._pins.add(chunk_id)

    def unpin(self, chunk_id: str) -> None:
        """Take a pin off; a no-op when there is none.

        Raises:
            StoreError: the server cannot be reached.
        """
        self._line.write(lambda: self._client.unpin(chunk_id))
        self._pins.discard(chunk_id)

    def pins(self) -> set[str]:
        """All pins, as of a moment ago."""
        now = time.monotonic()
        if now - self._pins_read_s > PINS_S:
            self._pins_read_s = now
            self._pins = set(self._line.ask(self._client.pins, self._pins))
        return self._pins

    def entries(self) -> list[Entry]:
        """All chunks, the least recently used first.

        Raises:
            StoreError: the server cannot be reached.
        """
        return self._line.write(self._client.entries)

    def make_room(self, num_bytes: int, budget_bytes: int, besides: str | None = None) -> Iterator[str]:
        """Remove chunks until so many bytes fit into the budget, pinned ones last; gives each that went.

        Args:
            besides: a chunk that is about to be written: it stays, and does not count.

        Raises:
            StoreError: the server cannot be reached.
        """
        self.tell()
        if self._client.lists_cheaply:
            used = self._line.write(self._client.used_bytes)
            if used + num_bytes <= budget_bytes:
                return
        entries = [entry for entry in self.entries() if entry.chunk_id != besides]
        excess = sum(entry.num_bytes for entry in entries) + num_bytes - budget_bytes
        pins = self._line.write(self._client.pins)
        for entry in sorted(entries, key=lambda entry: entry.chunk_id in pins):  # stable: by use within
            if excess <= 0:
                return
            self._line.write(partial(self._client.drop, entry.chunk_id))
            excess -= entry.num_bytes
            yield entry.chunk_id
