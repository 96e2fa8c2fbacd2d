"""Detects changes of a store's collections by other processes."""

import logging
from collections.abc import Callable, Iterable
from collections.abc import Collection as Known
from pathlib import Path

from retriever.collection import Collection
from retriever.embed import Embedder
from retriever.errors import RetrieverError, UnknownCollection
from retriever.layout import read_manifest

logger = logging.getLogger(__name__)


class Watch:
    """Reads changed and added collections. Not thread-safe.

    Args:
        store: the store's folder.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._fingerprint = ""
        self._followed: Callable[[], Iterable[str]] = tuple
        self._skipped: set[str] = set()

    def follow(self, names: Callable[[], Iterable[str]], fingerprint: str) -> None:
        """Set which collections count as added: those of these names and of this model."""
        self._followed, self._fingerprint = names, fingerprint

    def added(self, known: Known[str], embedder: Callable[[str], Embedder]) -> list[Collection]:
        """Collections that are in the store and not known; an unusable one is logged once, then skipped.

        Args:
            embedder: loads an embedding model by its name.
        """
        names = [name for name in self._followed() if name not in known and name not in self._skipped]
        return [collection for name in names if (collection := self._usable(name, embedder)) is not None]

    def newest(self, old: Collection, may_go: bool) -> Collection | None:
        """The current state of a collection; the same object if it has not changed.

        Args:
            may_go: True returns None for a removed collection; False keeps the loaded state.
        """
        if old.is_current():
            return old
        name = old.settings.name
        try:
            new = Collection.open(self._store, name)
        except RetrieverError as error:
            if isinstance(error, UnknownCollection) and may_go:
                return None
            logger.warning("collection %s: keeping the loaded version: %s", name, error)
            return old
        if new.settings.fingerprint != old.settings.fingerprint:
            built_for = new.settings.model
            logger.warning(
                "collection %s: keeping the loaded version: the one on disk was built for model %s",
                name,
                built_for,
            )
            return old
        return new

    def _usable(self, name: str, embedder: Callable[[str], Embedder]) -> Collection | None:
        try:
            settings = read_manifest(self._store, name).settings
            if settings.fingerprint == self._fingerprint:
                embedder(settings.embedder)
                return Collection.open(self._store, name)
            logger.warning("collection %s is not served: it was built for another model", name)
        except UnknownCollection:
            return None  # it is being created or removed
        except RetrieverError as error:
            logger.warning("collection %s is not served: %s", name, error)
        self._skipped.add(name)
        return None
