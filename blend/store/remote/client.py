"""What a server of remote chunk KV is asked to do."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from blend.store.remote.entry import Entry, Layout, Span
from blend.store.tiers.ledger import Entry as LedgerEntry


class RemoteClient(Protocol):
    """One model's chunks on one server.

    Called from any thread, by several at once. A call takes as long as the server does, and raises whatever
    its client raises when the server is dead, slow or lying: `remote.remote` sees to both. Ids have
    been checked.

    Attributes:
        lists_cheaply: whether `used_bytes` and `entries` cost little beside writing a chunk.
    """

    lists_cheaply: bool

    def put(self, chunk_id: str, entry: Entry) -> bool:
        """Write pieces, then the head that names them; False when the chunk was there, which stays.

        Raises:
            StoreFull: the server has no room.
        """

    def head(self, chunk_id: str) -> bytes | None:
        """A chunk's head, or None when it is absent."""

    def heads(self, chunk_ids: Sequence[str]) -> list[bytes | None]:
        """The same of several, at once."""

    def fetch(
        self, chunk_id: str, layout: Layout, spans: Sequence[Span]
    ) -> Iterable[bytes | memoryview | None]:
        """Spans of a chunk's pieces, in this order; None for each that is not there.

        What is given may be dropped before the next is asked for.
        """

    def has(self, chunk_id: str) -> bool:
        """Whether there is a head."""

    def drop(self, chunk_id: str) -> None:
        """Remove a head, and then its pieces, those after `GRACE_S`: a reader may be at them."""

    def ids(self) -> set[str]:
        """Ids of all chunks."""

    def generation(self) -> int:
        """A number that differs when chunks were added or removed since it was last asked."""

    def touch(self, chunk_ids: Iterable[str]) -> None:
        """Note that chunks were used just now, in this order."""

    def used_bytes(self) -> int:
        """Bytes of all chunks."""

    def entries(self) -> list[LedgerEntry]:
        """All chunks, the least recently used first."""

    def pin(self, chunk_id: str) -> None:
        """Keep a pin."""

    def unpin(self, chunk_id: str) -> None:
        """Take it off."""

    def pins(self) -> set[str]:
        """Ids of all pins."""

    def sweep(self) -> None:
        """Remove what dead writers left, where it does not go by itself."""

    def give_up(self) -> None:
        """End what is in progress, where that is possible: nobody waits for it any more."""

    def close(self) -> None:
        """Leave the server."""


GRACE_S = 10
"""For so long the pieces of a chunk that was removed can still be read."""
LEFTOVER_AGE_S = 3600
"""Age from which pieces without a head belong to a writer that died."""
