"""Chunks in a bucket of any S3-compatible service.

::

    <prefix>/models/<mark>/heads/<chunk id>                the head
    <prefix>/models/<mark>/pieces/<chunk id>.<writer>.<n>  a piece
    <prefix>/models/<mark>/used/<chunk id>                 empty; when it was written is the chunk's last use
    <prefix>/models/<mark>/pins/<chunk id>                 empty
    <prefix>/models/<mark>/generation                      random, written anew with every change

A bucket knows when an object was written, not when it was read. So a use is written down, at most once an
hour for each chunk by one process. Listing a bucket takes a request for every thousand objects: a budget is
kept when a job has written what it had, and by `kvblend store gc`, not with every chunk. `gc` also removes
what dead writers left. A rule of the bucket that lets objects expire is as good: what has gone is absent.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit

from blend.errors import ConfigError
from blend.store.file_format.chunk_header import BadFileError
from blend.store.remote.client import GRACE_S, LEFTOVER_AGE_S
from blend.store.remote.entry import Entry, Layout, Span, parse_head
from blend.store.tiers.ledger import Entry as LedgerEntry

TOUCH_S = 3600.0
REQUESTS_AT_ONCE = 16

Asked = TypeVar("Asked")
Given = TypeVar("Given")


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
    except Exception as error:  # the library's own classes, which name what it misses
        raise ConfigError(f"remote: {error}; expected s3://BUCKET/PREFIX and AWS_* variables") from error


def list_marks(client: Any) -> list[str]:
    """Marks of all models that have stored something, sorted."""
    import obstore

    found = obstore.list_with_delimiter(client, "models")["common_prefixes"]
    return sorted(str(prefix).rstrip("/").rpartition("/")[2] for prefix in found)


class S3Client:
    """Implements `blend.store.remote.client.RemoteClient`.

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
        self._doomed: list[tuple[float, list[str]]] = []

    def put(self, chunk_id: str, entry: Entry) -> bool:
        """As `RemoteClient`."""
        if self.has(chunk_id):
            return False
        for name, piece in zip(self._pieces(chunk_id, entry.layout), entry.pieces, strict=True):
            self._write(name, piece)
        self._write(self._name("heads", chunk_id), entry.head)
        self._changed()
        return True

    def head(self, chunk_id: str) -> bytes | None:
        """As `RemoteClient`."""
        return self._read(self._name("heads", chunk_id))

    def heads(self, chunk_ids: Sequence[str]) -> list[bytes | None]:
        """As `RemoteClient`."""
        return _side_by_side(self.head, chunk_ids)

    def fetch(
        self, chunk_id: str, layout: Layout, spans: Sequence[Span]
    ) -> Sequence[bytes | memoryview | None]:
        """As `RemoteClient`."""
        import obstore

        names = self._pieces(chunk_id, layout)

        def read(span: Span) -> memoryview | None:
            try:
                part = obstore.get_range(self._bucket, names[span.piece], start=span.start, end=span.stop)
            except FileNotFoundError:
                return None
            return memoryview(part)

        return _side_by_side(read, spans)

    def has(self, chunk_id: str) -> bool:
        """As `RemoteClient`."""
        import obstore

        try:
            obstore.head(self._bucket, self._name("heads", chunk_id))
        except FileNotFoundError:
            return False
        return True

    def drop(self, chunk_id: str) -> None:
        """As `RemoteClient`; pieces go with a later removal, at the end, or by `sweep`."""
        head = self.head(chunk_id)
        if head is not None:
            self._remove([self._name("heads", chunk_id)])
            self._changed()
            try:
                names = self._pieces(chunk_id, parse_head(head)[0])
            except BadFileError:
                names = []  # what it named is not known: `sweep` finds it
            self._doomed.append((time.monotonic() + GRACE_S, [*names, self._name("used", chunk_id)]))
        self._remove_doomed(time.monotonic())

    def ids(self) -> set[str]:
        """As `RemoteClient`."""
        return {name for name, _ in self._list("heads")}

    def generation(self) -> int:
        """As `RemoteClient`."""
        return int.from_bytes(self._read(f"{self._root}/generation") or b"")

    def touch(self, chunk_ids: Iterable[str]) -> None:
        """As `RemoteClient`."""
        for chunk_id in chunk_ids:
            now = time.monotonic()
            if now - self._touched.get(chunk_id, -TOUCH_S) >= TOUCH_S:
                self._touched[chunk_id] = now
                self._write(self._name("used", chunk_id), b"")

    def used_bytes(self) -> int:
        """As `RemoteClient`."""
        return sum(entry.num_bytes for entry in self.entries())

    def entries(self) -> list[LedgerEntry]:
        """As `RemoteClient`."""
        sizes: dict[str, int] = {}
        for name, meta in self._list("pieces"):
            chunk_id = name.partition(".")[0]
            sizes[chunk_id] = sizes.get(chunk_id, 0) + meta["size"]
        uses = {name: meta["last_modified"] for name, meta in self._list("used")}
        found = [
            LedgerEntry(
                chunk_id,
                meta["size"] + sizes.get(chunk_id, 0),
                int(max(meta["last_modified"], uses.get(chunk_id, meta["last_modified"])).timestamp() * 1e9),
            )
            for chunk_id, meta in self._list("heads")
        ]
        return sorted(found, key=lambda entry: (entry.used_ns, entry.chunk_id))

    def pin(self, chunk_id: str) -> None:
        """As `RemoteClient`."""
        self._write(self._name("pins", chunk_id), b"")

    def unpin(self, chunk_id: str) -> None:
        """As `RemoteClient`."""
        self._remove([self._name("pins", chunk_id)])

    def pins(self) -> set[str]:
        """As `RemoteClient`."""
        return {name for name, _ in self._list("pins")}

    def sweep(self) -> None:
        """Remove pieces that no head names and that are older than any writer."""
        oldest = time.time() - LEFTOVER_AGE_S
        old = [name for name, meta in self._list("pieces") if meta["last_modified"].timestamp() < oldest]
        marks: dict[str, str] = {}
        for chunk_id in {name.partition(".")[0] for name in old}:
            head = self.head(chunk_id)
            marks[chunk_id] = "" if head is None else parse_head(head)[0].mark
        for name in old:
            chunk_id, mark, _ = name.split(".")
            if marks[chunk_id] != mark:
                self._remove([f"{self._root}/pieces/{name}"])

    def give_up(self) -> None:
        """Nothing: requests have a timeout of their own."""

    def close(self) -> None:
        """Remove the pieces of what was removed."""
        self._remove_doomed(float("inf"))

    def _remove_doomed(self, now: float) -> None:
        due = [names for when, names in self._doomed if when <= now]
        self._doomed = [one for one in self._doomed if one[0] > now]
        for names in due:
            self._remove(names)

    def _changed(self) -> None:
        self._write(f"{self._root}/generation", os.urandom(8))

    def _list(self, kind: str) -> Iterator[tuple[str, Any]]:
        import obstore

        for page in obstore.list(self._bucket, f"{self._root}/{kind}"):
            for meta in page:
                yield str(meta["path"]).rpartition("/")[2], meta

    def _read(self, name: str) -> bytes | None:
        import obstore

        try:
            return bytes(obstore.get(self._bucket, name).bytes())
        except FileNotFoundError:
            return None

    def _write(self, name: str, data: bytes | memoryview) -> None:
        import obstore

        obstore.put(self._bucket, name, data)

    def _remove(self, names: Sequence[str]) -> None:
        import obstore

        for name in names:
            try:
                obstore.delete(self._bucket, name)
            except FileNotFoundError:
                continue

    def _name(self, kind: str, chunk_id: str) -> str:
        return f"{self._root}/{kind}/{chunk_id}"

    def _pieces(self, chunk_id: str, layout: Layout) -> list[str]:
        base = self._name("pieces", f"{chunk_id}.{layout.mark}")
        return [f"{base}.{index}" for index in range(layout.num_pieces)]


def _side_by_side(request: Callable[[Asked], Given], asked: Sequence[Asked]) -> list[Given]:
    """The answers to several requests, in their order: a bucket answers late, and many at once."""
    if len(asked) == 1:
        return [request(asked[0])]
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as threads:
        return list(threads.map(request, asked))
