"""The chunks of the store, as the scheduler finds them in prompts."""

import logging
from typing import Any

from blend.match import ChunkMatcher
from blend.plan import Span
from blend.stats import ChunkUse
from blend.store.disk import DiskStore

logger = logging.getLogger(__name__)


class KnownChunks:
    """The chunks of the store, found in prompts; follows what other processes add and remove."""

    def __init__(self, store: DiskStore) -> None:
        self._store = store
        self._matcher = ChunkMatcher()
        self._ids: set[str] = set()
        self._generation: int | None = None
        self._refresh()  # reading thousands of headers is for the start, not for the first request

    def find(self, prompt_ids: list[int]) -> Any:
        """(start, record) pairs in ascending order."""
        self._refresh()
        return self._matcher.find(prompt_ids)

    def use_of(self, span: Span) -> ChunkUse:
        """A span under the id that users know, that of the chunk's plain version; see `blend.versions`."""
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
