"""Chunks in Redis or Valkey, a single server or a cluster.

::

    kvblend:<mark>:{<chunk id>}    string: the chunk's file; expires until the indexes name it
    {kvblend:<mark>}:used          sorted set: chunk ids by last use, in seconds since 1970
    {kvblend:<mark>}:sizes         hash: bytes of each chunk's file
    {kvblend:<mark>}:generation    counter
    {kvblend:<mark>}:pins          set of chunk ids
    kvblend:marks                  set of the models' marks

A server that evicts by a rule of its own (`allkeys-lru` and the like) removes files and leaves the indexes:
such a chunk is absent when it is read. `remote_bytes` below the server's `maxmemory` keeps both in step and
evicts pinned chunks last.

In a cluster the text in braces decides which node holds a key: chunks spread over all nodes.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from blend.errors import ConfigError, StoreFull
from blend.store.remote.client import Head
from blend.store.tiers.ledger import Entry

MARKS = "kvblend:marks"
HEADS_AT_ONCE = 200
RANGE_BYTES = 4 << 20
"""Bytes of a GETRANGE: the reply's memory is reused for the next, where one large GET takes fresh pages."""
MAX_FILE_BYTES = 512 << 20
"""Largest value of a Redis server, unless its `proto-max-bulk-len` says otherwise."""
LEFTOVER_AGE_S = 3600
"""A file that no index names belongs to a writer that died: it expires after this time."""


def connect(url: str) -> Any:
    """A client of a server, or of a cluster (`redis+cluster://`, `rediss+cluster://`). Connects when used.

    Raises:
        ConfigError: `redis` is not installed, or the URL makes no sense.
    """
    try:
        from redis import asyncio as redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError as error:
        raise ConfigError("a Redis remote needs the redis package: pip install 'kvblend[redis]'") from error
    retry: Any = Retry(NoBackoff(), 1)  # once: the server may have closed a connection that was idle
    options = {"protocol": 2, "retry": retry}
    try:
        if "+cluster://" in url:
            return redis.RedisCluster.from_url(url.replace("+cluster://", "://"), **options)
        return redis.Redis.from_url(url, **options)
    except ValueError as error:
        raise ConfigError(f"remote: {error}; expected redis://HOST:PORT/DB") from error


class RedisClient:
    """Implements `blend.store.remote.client.RemoteClient`; its docstrings are there.

    Args:
        url: of the server.
        mark: of the model.
    """

    lists_cheaply = True

    def __init__(self, url: str, mark: str) -> None:
        self._mark = mark
        self._redis = connect(url)
        names = ("used", "sizes", "generation", "pins")
        self._used, self._sizes, self._generation, self._pins = (f"{{kvblend:{mark}}}:{one}" for one in names)

    async def put(self, chunk_id: str, data: memoryview) -> bool:
        """Write the file, then the indexes, then make the file durable: a crash leaves nothing for good."""
        import redis

        if len(data) > MAX_FILE_BYTES:
            raise StoreFull(
                f"chunk {chunk_id} takes {len(data)} bytes; a Redis value holds at most {MAX_FILE_BYTES}"
            )
        key = self._key(chunk_id)
        try:
            is_new = not await self._redis.exists(key)
            if is_new:
                await self._redis.set(key, data, ex=LEFTOVER_AGE_S)
            async with self._pipeline() as index:
                index.zadd(self._used, {chunk_id: time.time()})
                index.hset(self._sizes, chunk_id, str(len(data)))
                index.incr(self._generation)
                await index.execute()
            await self._redis.persist(key)
            await self._redis.sadd(MARKS, self._mark)
        except redis.exceptions.OutOfMemoryError as error:
            raise StoreFull(
                f"the Redis server has no room ({error}); raise its maxmemory or set remote_bytes below it"
            ) from error
        return is_new

    async def get(self, chunk_id: str) -> memoryview | None:
        """Small files come in one round trip, larger ones in ranges."""
        key = self._key(chunk_id)
        (head,) = await self.heads([chunk_id], RANGE_BYTES)
        if head is None or len(head.data) == head.num_bytes:
            return None if head is None else memoryview(head.data)
        file: memoryview = torch.empty(head.num_bytes, dtype=torch.uint8).numpy().data
        file[:RANGE_BYTES] = head.data
        del head  # its memory is reused
        for start in range(RANGE_BYTES, len(file), RANGE_BYTES):
            part = await self._redis.getrange(key, start, start + RANGE_BYTES - 1)
            if len(part) != min(RANGE_BYTES, len(file) - start):
                return None  # removed or replaced meanwhile
            file[start : start + len(part)] = part
        return file

    async def heads(self, chunk_ids: Sequence[str], num_bytes: int) -> list[Head | None]:
        """In pipelines of `HEADS_AT_ONCE`."""
        found: list[Head | None] = []
        for start in range(0, len(chunk_ids), HEADS_AT_ONCE):
            async with self._pipeline() as reads:
                for key in map(self._key, chunk_ids[start : start + HEADS_AT_ONCE]):
                    reads.strlen(key)
                    reads.getrange(key, 0, num_bytes - 1)
                answers = await reads.execute()
            for size, data in zip(answers[::2], answers[1::2], strict=True):
                if not 0 <= size <= MAX_FILE_BYTES or len(data) != min(size, num_bytes):
                    raise ValueError(f"{len(data)} bytes of a value of {size}")
                found.append(Head(data, size) if size else None)
        return found

    async def has(self, chunk_id: str) -> bool:
        """One EXISTS."""
        return bool(await self._redis.exists(self._key(chunk_id)))

    async def drop(self, chunk_id: str) -> None:
        """The file first: an index that outlives it names an absent chunk."""
        await self._redis.unlink(self._key(chunk_id))
        async with self._pipeline() as index:
            index.zrem(self._used, chunk_id)
            index.hdel(self._sizes, chunk_id)
            index.incr(self._generation)
            await index.execute()

    async def ids(self) -> set[str]:
        """Those that the index names."""
        return {chunk_id.decode() for chunk_id in await self._redis.hkeys(self._sizes)}

    async def num_bytes(self) -> int:
        """Their sum."""
        return sum(map(int, await self._redis.hvals(self._sizes)))

    async def entries(self) -> list[Entry]:
        """A chunk whose last use is unknown goes first."""
        used = dict(await self._redis.zrange(self._used, 0, -1, withscores=True))
        sizes = await self._redis.hgetall(self._sizes)
        found = [Entry(key.decode(), int(size), int(used.get(key, 0) * 1e9)) for key, size in sizes.items()]
        return sorted(found, key=lambda entry: (entry.used_ns, entry.chunk_id))

    async def generation(self) -> int:
        """A counter that grows with every change."""
        return int(await self._redis.get(self._generation) or 0)

    async def touch(self, chunk_ids: Iterable[str]) -> None:
        """A chunk that was removed meanwhile stays out of the index (XX)."""
        now = time.time()  # microseconds apart, which keeps their order
        await self._redis.zadd(self._used, {key: now + n / 1e6 for n, key in enumerate(chunk_ids)}, xx=True)

    async def pin(self, chunk_id: str) -> None:
        """A member of the set."""
        await self._redis.sadd(self._pins, chunk_id)

    async def unpin(self, chunk_id: str) -> None:
        """No member any more."""
        await self._redis.srem(self._pins, chunk_id)

    async def pins(self) -> set[str]:
        """All members."""
        return {chunk_id.decode() for chunk_id in await self._redis.smembers(self._pins)}

    async def marks(self) -> list[str]:
        """All members of the set of marks."""
        return sorted(mark.decode() for mark in await self._redis.smembers(MARKS))

    async def close(self) -> None:
        """Close all connections of the pool."""
        await self._redis.aclose()

    def _pipeline(self) -> Any:
        return self._redis.pipeline(transaction=False)

    def _key(self, chunk_id: str) -> str:
        return f"kvblend:{self._mark}:{{{chunk_id}}}"
