"""Finds the chunks of the store in prompts, for the scheduler."""

import logging
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from blend.chunks.chunk import ChunkRecord
from blend.plan.match import ChunkMatcher
from blend.plan.plan import Span
from blend.report.stats import ChunkUse

logger = logging.getLogger(__name__)


class ChunkList(Protocol):
    """The stored chunks, as the scheduler reads them between two steps: no method may wait for a server."""

    def generation(self) -> int:
        """A number that changes when chunks may have been added or removed."""

    def ids(self) -> Iterator[str]:
        """Ids of all stored chunks, in no order."""

    def record(self, chunk_id: str) -> ChunkRecord | None:
        """What is stored under an id; None when absent or unreadable."""


class BothLists:
    """The chunks of this machine's folder and of a remote's view; implements `ChunkList`."""

    def __init__(self, local: ChunkList, remote: ChunkList) -> None:
        self._local = local
        self._remote = remote

    def generation(self) -> int:
        """A number that changes when either list's number does."""
        return (self._local.generation() << 64) + self._remote.generation()

    def ids(self) -> Iterator[str]:
        """Ids of all chunks in either list, in no order."""
        return iter({*self._local.ids(), *self._remote.ids()})

    def record(self, chunk_id: str) -> ChunkRecord | None:
        """What is stored under an id; None when absent or unreadable."""
        return self._remote.record(chunk_id) or self._local.record(chunk_id)


class KnownChunks:
    """Finds the chunks of a store in prompts; follows what other processes add and remove.

    Args:
        store: the stored chunks.
        shared: finds the shared chunks in the same prompts.
    """

    def __init__(self, store: ChunkList, shared: "KnownChunks | None" = None) -> None:
        self._store = store
        self._shared = shared
        self._matcher = ChunkMatcher()
        self._ids: set[str] = set()
        self._generation: int | None = None
        self._refresh()  # thousands of headers are read at the start, not at the first request

    def find(self, prompt_ids: list[int]) -> Any:
        """(start, record) pairs in ascending order."""
        self._refresh()
        if self._shared is None:
            return self._matcher.find(prompt_ids)
        self._shared._refresh()
        return self._matcher.find(prompt_ids, self._shared._matcher)

    def echo_of(self, record: ChunkRecord) -> ChunkRecord | None:
        """The echo of a chunk that was found, see `ChunkMatcher.echo_of`."""
        own = self._matcher.echo_of(record)
        return own if own is not None or self._shared is None else self._shared.echo_of(record)

    def use_of(self, span: Span) -> ChunkUse:
        """A span with the id of the chunk's plain version, which users know; see `blend.chunks.versions`."""
        if self._shared is not None and span.record.chunk_id not in self._matcher:
            return self._shared.use_of(span)
        plain = self._matcher.plain_of(span.record)
        return ChunkUse(plain.chunk_id, span.start, span.record.num_tokens)

    def forget(self, chunk_id: str) -> None:
        """Forget an unreadable chunk; it is known again when it is stored again."""
        if chunk_id in self._ids:
            self._ids.discard(chunk_id)
            self._matcher.remove(chunk_id)

    def _refresh(self) -> None:
        try:
            generation = self._store.generation()
            if generation == self._generation:
                return
            stored = set(self._store.ids())
        except OSError as error:
            logger.warning("cannot list the chunk store, using the chunks known so far: %s", error)
            return
        for chunk_id in self._ids - stored:
            self._matcher.remove(chunk_id)
        self._ids &= stored
        for chunk_id in stored - self._ids:
            record = self._store.record(chunk_id)
            if record is not None:
                self._matcher.add(record)
                self._ids.add(chunk_id)
        self._generation = generation


class KnownByNamespace:
    """The known chunks of each namespace: its own and the shared ones. A namespace is opened at its first
    use.

    Args:
        open_list: opens the list of a namespace's chunks; "" is the list of the shared ones.
    """

    def __init__(self, open_list: Callable[[str], ChunkList]) -> None:
        self._open_list = open_list
        self._shared = KnownChunks(open_list(""))
        self._known = {"": self._shared}

    def of(self, namespace: str) -> KnownChunks:
        """The chunks that requests of a namespace may use.

        Raises:
            StoreError: its folder cannot be made.
        """
        if namespace not in self._known:
            self._known[namespace] = KnownChunks(self._open_list(namespace), self._shared)
        return self._known[namespace]

    def forget(self, chunk_id: str) -> None:
        """Forget an unreadable chunk in all namespaces; see `KnownChunks.forget`."""
        for known in self._known.values():
            known.forget(chunk_id)
