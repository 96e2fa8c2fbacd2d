"""The calls that a server of remote chunks offers, and the clients that make them."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from blend.store.remote.url import check_url
from blend.store.tiers.ledger import Entry


class Head(NamedTuple):
    """The first bytes of a chunk's file, and the size of the whole file."""

    data: bytes | memoryview
    num_bytes: int


class RemoteClient(Protocol):
    """One model's chunks on one server. A chunk is one object: its file, as it lies on a disk.

    Each call takes as long as the server does, and raises whatever its library raises when the server is
    dead, slow or lying: `RemoteConnection` bounds and maps both. All calls run on one event loop, many at a
    time. Ids have been checked.

    Attributes:
        lists_cheaply: whether `num_bytes` costs little next to writing a chunk.
    """

    lists_cheaply: bool

    async def put(self, chunk_id: str, data: memoryview) -> bool:
        """Store a file; readers find it whole or not at all. False if it exists, then it stays.

        Raises:
            StoreFull: the server has no room.
        """

    async def get(self, chunk_id: str) -> memoryview | None:
        """A chunk's file, or None when it is absent."""

    async def heads(self, chunk_ids: Sequence[str], num_bytes: int) -> list[Head | None]:
        """The first `num_bytes` bytes of several files, None for each that is absent."""

    async def has(self, chunk_id: str) -> bool:
        """Whether a chunk is stored."""

    async def drop(self, chunk_id: str) -> None:
        """Remove a chunk and keep its pin; a no-op when it is absent."""

    async def ids(self) -> set[str]:
        """Ids of all chunks."""

    async def num_bytes(self) -> int:
        """Bytes of all files."""

    async def entries(self) -> list[Entry]:
        """Size and last use of all chunks, the least recently used first."""

    async def generation(self) -> int:
        """A number that differs when chunks were added or removed since the last call."""

    async def touch(self, chunk_ids: Iterable[str]) -> None:
        """Record that chunks were used just now, in this order."""

    async def pin(self, chunk_id: str) -> None:
        """Set a pin."""

    async def unpin(self, chunk_id: str) -> None:
        """Remove a pin."""

    async def pins(self) -> set[str]:
        """Ids of all pins."""

    async def marks(self) -> list[str]:
        """Marks of all models that have stored chunks on the server, sorted."""

    async def close(self) -> None:
        """Close the connections."""


def make_client(url: str, mark: str, timeout_s: float) -> RemoteClient:
    """The client of one model's chunks on a remote. It connects when it is first used.

    Args:
        timeout_s: upper bound of one request.

    Raises:
        ConfigError: the URL names no remote, or the package that it needs is not installed.
    """
    check_url(url)
    if url.startswith("s3://"):
        from blend.store.remote.s3_client import S3Client

        return S3Client(url, mark, timeout_s)
    from blend.store.remote.redis_client import RedisClient

    return RedisClient(url, mark)
