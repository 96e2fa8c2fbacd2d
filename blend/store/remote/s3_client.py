"""Chunks in a bucket of any S3-compatible service.

::

    <prefix>/models/<mark>/chunks/<chunk id>  the chunk's file
    <prefix>/models/<mark>/used/<chunk id>    empty; its time of writing is the chunk's last use
    <prefix>/models/<mark>/pins/<chunk id>    empty
    <prefix>/models/<mark>/generation         random, written anew with every change

A bucket records when an object was written, not when it was read. So each process writes down a chunk's use
at most once an hour. Listing a bucket takes a request for every thousand objects: a budget is enforced when a
job has sent its chunks, and by `kvblend store gc`, not with every chunk. A lifecycle rule of the bucket works
too: an expired chunk is absent.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from blend.errors import ConfigError
from blend.store.remote.client import Head
from blend.store.tiers.ledger import Entry

TOUCH_S = 3600.0
MAX_REQUESTS = 16
"""Requests in flight of one call: a bucket answers late, and many at once."""


def connect(url: str, timeout_s: float) -> Any:
    """A bucket, with endpoint, region and credentials of the usual `AWS_*` variables.

    Raises:
        ConfigError: `obstore` is not installed, or the URL makes no sense.
    """
    try:
        from obstore.store import S3Store
    except ImportError as error:
        raise ConfigError("an S3 remote needs the obstore package: pip install 'kvblend[s3]'") from error
    where = urlsplit(url)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    timeout = timedelta(seconds=timeout_s)
    try:
        return S3Store(
            where.netloc,
            prefix=where.path.strip("/") or None,
            client_options={
                "timeout": timeout,
                "connect_timeout": timeout,
                "allow_http": endpoint.startswith("http://"),
            },
            retry_config={"max_retries": 1, "retry_timeout": timeout},
        )
    except Exception as error:  # the library's own classes, which name what is missing
        raise ConfigError(f"remote: {error}; expected s3://BUCKET/PREFIX and AWS_* variables") from error


class S3Client:
    """Implements `blend.store.remote.client.RemoteClient`; its docstrings are there.

    Args:
        url: `s3://BUCKET/PREFIX`.
        mark: of the model.
        timeout_s: of one request.
    """

    lists_cheaply = False

    def __init__(self, url: str, mark: str, timeout_s: float) -> None:
        self._bucket = connect(url, timeout_s)
        self._root = f"models/{mark}"
        self._touched: dict[str, float] = {}

    async def put(self, chunk_id: str, data: memoryview) -> bool:
        """An object appears whole."""
        if await self.has(chunk_id):
            return False
        await self._write(self._name("chunks", chunk_id), data)
        await self._changed()
        return True

    async def get(self, chunk_id: str) -> memoryview | None:
        """One request."""
        data = await self._read(self._name("chunks", chunk_id))
        return None if data is None else memoryview(data)

    async def heads(self, chunk_ids: Sequence[str], num_bytes: int) -> list[Head | None]:
        """A request each, `MAX_REQUESTS` at a time."""
        import obstore

        slots = asyncio.Semaphore(MAX_REQUESTS)

        async def head(chunk_id: str) -> Head | None:
            name = self._name("chunks", chunk_id)
            async with slots:
                try:
                    found = await obstore.get_async(self._bucket, name, options={"range": (0, num_bytes)})
                    return Head(memoryview(await found.bytes_async()), found.meta["size"])
                except FileNotFoundError:
                    return None

        return list(await asyncio.gather(*map(head, chunk_ids)))

    async def has(self, chunk_id: str) -> bool:
        """One request."""
        import obstore

        try:
            await obstore.head_async(self._bucket, self._name("chunks", chunk_id))
        except FileNotFoundError:
            return False
        return True

    async def drop(self, chunk_id: str) -> None:
        """The file and its last use."""
        if await self.has(chunk_id):
            for kind in ("chunks", "used"):
                await self._remove(self._name(kind, chunk_id))
            await self._changed()

    async def ids(self) -> set[str]:
        """Those that are listed."""
        return {name async for name, _ in self._list("chunks")}

    async def num_bytes(self) -> int:
        """The sum of the listed sizes."""
        return sum([meta["size"] async for _, meta in self._list("chunks")])

    async def entries(self) -> list[Entry]:
        """The last use is the later of the times at which a file and its `used` object were written."""
        used = {name: meta["last_modified"] async for name, meta in self._list("used")}
        found = [
            Entry(
                chunk_id,
                meta["size"],
                int(max(meta["last_modified"], used.get(chunk_id, meta["last_modified"])).timestamp() * 1e9),
            )
            async for chunk_id, meta in self._list("chunks")
        ]
        return sorted(found, key=lambda entry: (entry.used_ns, entry.chunk_id))

    async def generation(self) -> int:
        """The random number of the last change."""
        return int.from_bytes(bytes(await self._read(f"{self._root}/generation") or b""))

    async def touch(self, chunk_ids: Iterable[str]) -> None:
        """At most once in `TOUCH_S` for each chunk."""
        for chunk_id in chunk_ids:
            now = time.monotonic()
            if now - self._touched.get(chunk_id, -TOUCH_S) >= TOUCH_S:
                self._touched[chunk_id] = now
                await self._write(self._name("used", chunk_id), b"")

    async def pin(self, chunk_id: str) -> None:
        """An empty object."""
        await self._write(self._name("pins", chunk_id), b"")

    async def unpin(self, chunk_id: str) -> None:
        """Remove it."""
        await self._remove(self._name("pins", chunk_id))

    async def pins(self) -> set[str]:
        """Those that are listed."""
        return {name async for name, _ in self._list("pins")}

    async def marks(self) -> list[str]:
        """Folders below `models`."""
        import obstore

        found = await obstore.list_with_delimiter_async(self._bucket, "models")
        return sorted(str(prefix).rstrip("/").rpartition("/")[2] for prefix in found["common_prefixes"])

    async def close(self) -> None:
        """Nothing: the library closes its connections itself."""

    async def _changed(self) -> None:
        await self._write(f"{self._root}/generation", os.urandom(8))

    async def _list(self, kind: str) -> AsyncIterator[tuple[str, Any]]:
        import obstore

        async for page in obstore.list(self._bucket, f"{self._root}/{kind}"):
            for meta in page:
                yield str(meta["path"]).rpartition("/")[2], meta

    async def _read(self, name: str) -> Any:
        import obstore

        try:
            return await (await obstore.get_async(self._bucket, name)).bytes_async()
        except FileNotFoundError:
            return None

    async def _write(self, name: str, data: bytes | memoryview) -> None:
        import obstore

        await obstore.put_async(self._bucket, name, data)

    async def _remove(self, name: str) -> None:
        import obstore

        try:
            await obstore.delete_async(self._bucket, name)
        except FileNotFoundError:
            return

    def _name(self, kind: str, chunk_id: str) -> str:
        return f"{self._root}/{kind}/{chunk_id}"
