"""What has become of a store's collections on disk, where other processes change them."""

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
    """Reads collections that changed or were added. Not thread-safe.

    Args:
        store: the store's folder.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._fingerprint = ""
        self._followed: Callable[[], Iterable[str]] = tuple
        self._left_out: set[str] = set()

    def follow(self, names: Callable[[], Iterable[str]], fingerprint: str) -> None:
        """What counts as added from now on: collections of these names and this model."""
        self._followed, self._fingerprint = names, fingerprint

    def added(self, known: Known[str], embedder: Callable[[str], Embedder]) -> list[Collection]:
        """Collections that are there and not known; one that cannot be served is named once, and left out.

        Args:
            embedder: loads an embedding model by its name.
        """
        names = [name for name in self._followed() if name not in known and name not in self._left_out]
        return [collection for name in names if (collection := self._usable(name, embedder)) is not None]

    def newest(self, old: Collection, may_go: bool) -> Collection | None:
        """What is published now in the place of a collection; the same object where that is what it was.

        Args:
            may_go: whether None is returned when it was removed; otherwise it stays as it was.
        """
        if old.is_current():
            return old
        name = old.settings.name
        try:
            new = Collection.open(self._store, name)
        except RetrieverError as error:
            if isinstance(error, UnknownCollection) and may_go:
                return None
            logger.warning("collection %s is served as it was: %s", name, error)
            return old
        if new.settings.fingerprint != old.settings.fingerprint:
            logger.warning("collection %s is served as it was: it is now another model's", name)
            return old
        return new

    def _usable(self, name: str, embedder: Callable[[str], Embedder]) -> Collection | None:
        try:
            settings = read_manifest(self._store, name).settings
            if settings.fingerprint == self._fingerprint:
                embedder(settings.embedder)
                return Collection.open(self._store, name)
            logger.warning("collection %s is another model's, and not served here", name)
        except UnknownCollection:
            return None  # it is being made, or removed
        except RetrieverError as error:
            logger.warning("collection %s is not served: %s", name, error)
        self._left_out.add(name)
        return None
