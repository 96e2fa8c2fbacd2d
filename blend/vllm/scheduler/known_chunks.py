"""The chunks of the store, as the scheduler finds them in prompts."""

import logging
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from blend.chunks.chunk import ChunkRecord
from blend.plan.match import ChunkMatcher
from blend.plan.plan import Span
from blend.report.stats import ChunkUse

logger = logging.getLogger(__name__)


class ChunkList(Protocol):
    """What is stored, as the scheduler asks for it between two steps: no method may wait for a server."""

    def generation(self) -> int:
        """A number that differs when chunks may have been added or removed since it was last asked."""

    def ids(self) -> Iterator[str]:
        """Ids of all stored chunks, in no order."""

    def record(self, chunk_id: str) -> ChunkRecord | None:
        """What is stored under an id; None when absent or unreadable."""


class BothLists:
    """The chunks of this machine's folder and those of a remote's view; implements `ChunkList`."""

    def __init__(self, near: ChunkList, far: ChunkList) -> None:
        self._near = near
        self._far = far

    def generation(self) -> int:
        """A number that differs when either's does."""
        return (self._near.generation() << 64) + self._far.generation()

    def ids(self) -> Iterator[str]:
        """Ids of all chunks of both, in no order."""
        return iter({*self._near.ids(), *self._far.ids()})

    def record(self, chunk_id: str) -> ChunkRecord | None:
        """What is stored under an id; None when absent or unreadable."""
        return self._far.record(chunk_id) or self._near.record(chunk_id)


class KnownChunks:
    """The chunks of a store, found in prompts; follows what other processes add and remove.

    Args:
        store: what is stored.
        common: of chunks that are everybody's to read, found in the same prompts.
    """

    def __init__(self, store: ChunkList, common: "KnownChunks | None" = None) -> None:
        self._store = store
        self._common = common
        self._matcher = ChunkMatcher()
        self._ids: set[str] = set()
        self._generation: int | None = None
        self._refresh()  # reading thousands of headers is for the start, not for the first request

    def find(self, prompt_ids: list[int]) -> Any:
        """(start, record) pairs in ascending order."""
        self._refresh()
        if self._common is None:
            return self._matcher.find(prompt_ids)
        self._common._refresh()
        return self._matcher.find(prompt_ids, self._common._matcher)

    def echo_of(self, record: ChunkRecord) -> ChunkRecord | None:
        """The second reading of a chunk that was found, see `ChunkMatcher.echo_of`."""
        own = self._matcher.echo_of(record)
        return own if own is not None or self._common is None else self._common.echo_of(record)

    def use_of(self, span: Span) -> ChunkUse:
        """A span under the id that users know, that of the chunk's plain version; see `blend.versions`."""
        if self._common is not None and span.record.chunk_id not in self._matcher:
            return self._common.use_of(span)
        plain = self._matcher.plain_of(span.record)
        return ChunkUse(plain.chunk_id, span.start, span.record.num_tokens)

    def forget(self, chunk_id: str) -> None:
        """A chunk turned out to be unreadable; it is known again when it is stored again."""
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
            logger.warning("the chunk store cannot be listed, going on with what is known: %s", error)
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


class KnownIn:
    """What is known in each namespace: its own chunks, and those of none. Made when first asked for.

    Args:
        open_list: what is stored in a namespace, "" for none.
    """

    def __init__(self, open_list: Callable[[str], ChunkList]) -> None:
        self._open_list = open_list
        self._common = KnownChunks(open_list(""))
        self._known = {"": self._common}

    def of(self, namespace: str) -> KnownChunks:
        """What the requests of a namespace may be blended from.

        Raises:
            StoreError: its folder cannot be made.
        """
        if namespace not in self._known:
            self._known[namespace] = KnownChunks(self._open_list(namespace), self._common)
        return self._known[namespace]

    def forget(self, chunk_id: str) -> None:
        """A chunk turned out to be unreadable, wherever it is known; see `KnownChunks.forget`."""
        for known in self._known.values():
            known.forget(chunk_id)
