"""Chunks in Redis or Valkey, a single server or a cluster.

::

    kvblend:<mark>:{<chunk id>}               string: the head
    kvblend:<mark>:{<chunk id>}:<writer>:<n>  string: a piece; expires, until its head is there
    {kvblend:<mark>}:used                     sorted set: chunk ids by last use, in microseconds of the server
    {kvblend:<mark>}:sizes                    hash: bytes of each chunk's file
    {kvblend:<mark>}:state                    hash: `bytes` of all files, `generation`
    {kvblend:<mark>}:pins                     set of chunk ids
    kvblend:marks                             set of the models' marks

A server that evicts by a rule of its own (`allkeys-lru` and the like) takes heads and pieces one by one: what
it took is found absent or damaged when it is read. `remote_bytes` below its `maxmemory` evicts whole chunks,
pinned ones last.

In a cluster a chunk lies on one node, since what stands in braces decides that, and chunks lie on all.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from threading import Lock
from typing import Any

from blend.errors import ConfigError, StoreFull
from blend.store.file_format.chunk_header import BadFileError
from blend.store.remote.client import GRACE_S, LEFTOVER_AGE_S
from blend.store.remote.entry import Entry, Layout, Span, parse_head
from blend.store.tiers.ledger import Entry as LedgerEntry

MARKS = "kvblend:marks"
AT_ONCE = 200
"""Heads of one round trip."""
READ_BYTES = 1 << 20
"""Read from a socket at once: with the client's own 32 KiB a piece takes hundreds of calls."""

# The head appears with all its pieces or not at all, and they stop expiring with it.
_APPEAR = """
for i = 2, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 0 then return redis.error_reply('piece expired') end
end
if not redis.call('SET', KEYS[1], ARGV[1], 'NX') then
  for i = 2, #KEYS do redis.call('UNLINK', KEYS[i]) end
  return 0
end
for i = 2, #KEYS do redis.call('PERSIST', KEYS[i]) end
return 1
"""
_NOTE = """
local now = redis.call('TIME')
redis.call('ZADD', KEYS[1], now[1] * 1000000 + now[2], ARGV[1])
if redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[2]) == 1 then
  redis.call('HINCRBY', KEYS[3], 'bytes', ARGV[2])
  redis.call('HINCRBY', KEYS[3], 'generation', 1)
end
"""
_FORGET = """
local size = redis.call('HGET', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[1], ARGV[1])
if size then
  redis.call('HDEL', KEYS[2], ARGV[1])
  redis.call('HINCRBY', KEYS[3], 'bytes', -size)
  redis.call('HINCRBY', KEYS[3], 'generation', 1)
end
"""
_TOUCH = """
local now = redis.call('TIME')
for i = 1, #ARGV do redis.call('ZADD', KEYS[1], 'XX', now[1] * 1000000 + now[2] + i - 1, ARGV[i]) end
"""


def connect(url: str, timeout_s: float) -> Any:
    """A client of a server, or of a cluster (`redis+cluster://`, `rediss+cluster://`). Connects when used.

    Raises:
        ConfigError: `redis` is not installed, or the URL makes no sense.
    """
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError as error:
        raise ConfigError("a Redis remote needs the redis package: pip install 'kvblend[redis]'") from error
    options = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "socket_read_size": READ_BYTES,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 1),  # once: a connection that idled may have been closed
    }
    try:
        if "+cluster://" in url:
            make: Any = redis.RedisCluster.from_url
            return make(url.replace("+cluster://", "://"), **options)
        return redis.Redis.from_url(url, **options)
    except ValueError as error:
        raise ConfigError(f"remote: {error}; expected redis://HOST:PORT/DB") from error


def list_marks(client: Any) -> list[str]:
    """Marks of all models that have stored something, sorted."""
    return sorted(mark.decode() for mark in client.smembers(MARKS))


class RedisClient:
    """Implements `blend.store.remote.client.RemoteClient`. Makes its connection when first used.

    Args:
        url: of the server.
        mark: of the model.
        timeout_s: of one call of a socket.
    """

    lists_cheaply = True

    def __init__(self, url: str, mark: str, timeout_s: float) -> None:
        self._mark = mark
        self._connect: Callable[[], Any] = partial(connect, url, timeout_s)
        # A cluster is asked for its nodes when its client is made: not before it is needed.
        self._connected: Any = None if "+cluster://" in url else self._connect()
        self._connecting = Lock()
        self._index = [f"{{kvblend:{mark}}}:{name}" for name in ("used", "sizes", "state")]
        self._pins = f"{{kvblend:{mark}}}:pins"

    @property
    def _client(self) -> Any:
        if self._connected is None:
            with self._connecting:
                self._connected = self._connected or self._connect()
        return self._connected

    def put(self, chunk_id: str, entry: Entry) -> bool:
        """As `RemoteClient`. Pieces that no head has named within an hour expire."""
        import redis

        names = self._pieces(chunk_id, entry.layout)
        try:
            is_new = not self.has(chunk_id)
            if is_new:
                for name, piece in zip(names, entry.pieces, strict=True):
                    self._client.set(name, piece, ex=LEFTOVER_AGE_S)
                appear = (_APPEAR, 1 + len(names), self._head(chunk_id), *names, entry.head)
                is_new = bool(self._client.eval(*appear))
            self._client.eval(_NOTE, 3, *self._index, chunk_id, entry.layout.num_bytes)
            self._client.sadd(MARKS, self._mark)
        except redis.exceptions.OutOfMemoryError as error:
            raise StoreFull(
                f"the Redis server has no room ({error}); raise its maxmemory or set remote_bytes below it"
            ) from error
        return is_new

    def head(self, chunk_id: str) -> bytes | None:
        """As `RemoteClient`."""
        head: bytes | None = self._client.get(self._head(chunk_id))
        return head

    def heads(self, chunk_ids: Sequence[str]) -> list[bytes | None]:
        """As `RemoteClient`."""
        found: list[bytes | None] = []
        for start in range(0, len(chunk_ids), AT_ONCE):
            pipeline = self._client.pipeline(transaction=False)
            for chunk_id in chunk_ids[start : start + AT_ONCE]:
                pipeline.get(self._head(chunk_id))
            found += pipeline.execute()
        return found

    def fetch(self, chunk_id: str, layout: Layout, spans: Sequence[Span]) -> Iterator[bytes | None]:
        """As `RemoteClient`. One by one: each takes the memory that the one before has left, warm."""
        names = self._pieces(chunk_id, layout)
        for span in spans:
            begin, end = layout.piece(span.piece)
            if span.stop - span.start == end - begin:
                yield self._client.get(names[span.piece])
            else:
                yield self._client.getrange(names[span.piece], span.start, span.stop - 1)

    def has(self, chunk_id: str) -> bool:
        """As `RemoteClient`."""
        return bool(self._client.exists(self._head(chunk_id)))

    def drop(self, chunk_id: str) -> None:
        """As `RemoteClient`; the server lets the pieces expire."""
        head = self.head(chunk_id)
        self._client.unlink(self._head(chunk_id))
        self._client.eval(_FORGET, 3, *self._index, chunk_id)
        try:
            names = [] if head is None else self._pieces(chunk_id, parse_head(head)[0])
        except BadFileError:
            return  # what it named is not known; the server's own eviction is left
        pipeline = self._client.pipeline(transaction=False)
        for name in names:
            pipeline.expire(name, GRACE_S)
        pipeline.execute()

    def ids(self) -> set[str]:
        """As `RemoteClient`."""
        return {chunk_id.decode() for chunk_id in self._client.hkeys(self._index[1])}

    def generation(self) -> int:
        """As `RemoteClient`."""
        return int(self._client.hget(self._index[2], "generation") or 0)

    def touch(self, chunk_ids: Iterable[str]) -> None:
        """As `RemoteClient`."""
        self._client.eval(_TOUCH, 1, self._index[0], *chunk_ids)

    def used_bytes(self) -> int:
        """As `RemoteClient`."""
        return int(self._client.hget(self._index[2], "bytes") or 0)

    def entries(self) -> list[LedgerEntry]:
        """As `RemoteClient`."""
        sizes = self._client.hgetall(self._index[1])
        used = self._client.zrange(self._index[0], 0, -1, withscores=True)
        return [
            LedgerEntry(chunk_id.decode(), int(sizes[chunk_id]), int(score) * 1000)
            for chunk_id, score in used
            if chunk_id in sizes
        ]

    def pin(self, chunk_id: str) -> None:
        """As `RemoteClient`."""
        self._client.sadd(self._pins, chunk_id)

    def unpin(self, chunk_id: str) -> None:
        """As `RemoteClient`."""
        self._client.srem(self._pins, chunk_id)

    def pins(self) -> set[str]:
        """As `RemoteClient`."""
        return {chunk_id.decode() for chunk_id in self._client.smembers(self._pins)}

    def sweep(self) -> None:
        """Nothing: what dead writers left expires."""

    def give_up(self) -> None:
        """Close the connections that are in use: whoever reads from one stops."""
        if self._connected is None:
            return
        nodes = getattr(self._connected, "get_nodes", None)
        clients = [self._connected] if nodes is None else [node.redis_connection for node in nodes()]
        for client in clients:
            if client is not None:
                client.connection_pool.disconnect()

    def close(self) -> None:
        """As `RemoteClient`."""
        if self._connected is not None:
            self._connected.close()

    def _head(self, chunk_id: str) -> str:
        return f"kvblend:{self._mark}:{{{chunk_id}}}"

    def _pieces(self, chunk_id: str, layout: Layout) -> list[str]:
        return [f"{self._head(chunk_id)}:{layout.mark}:{index}" for index in range(layout.num_pieces)]
