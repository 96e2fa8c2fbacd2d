"""The chunk stores of a worker: one for each namespace, opened when it is first asked for."""

from blend.report.metrics import Meter
from blend.store.base import ChunkStore
from blend.store.tiers.place import Place
from blend.store.tiers.shared_reads import ChunkSource, SharedReads
from blend.vllm.settings import Settings


class Stores:
    """Where a worker puts chunks, and where it reads them.

    Args:
        settings: of the connector.
        meter: counts what all of them do.
        place: of the worker, see `blend.store.stack.open_store`.

    Raises:
        StoreError, ConfigError: the store of no namespace cannot be opened.
    """

    def __init__(self, settings: Settings, meter: Meter, place: Place | None = None) -> None:
        self._settings = settings
        self._meter = meter
        self._common = settings.open_store(meter, place)
        self._own = {"": self._common}

    def scope(self, namespace: str) -> str:
        """What the keys of a namespace's chunks are made of, see `blend.namespace.scoped`."""
        return self._settings.within(namespace).fingerprint

    def of(self, namespace: str) -> ChunkStore:
        """A namespace's own chunks.

        Raises:
            StoreError: its folder cannot be made.
        """
        if namespace not in self._own:
            self._own[namespace] = self._settings.within(namespace).open_store(self._meter)
        return self._own[namespace]

    def read_by(self, namespace: str) -> ChunkSource:
        """What the requests of a namespace may be blended from: its own chunks, and everybody's.

        Raises:
            StoreError: as `of`.
        """
        if not namespace:
            return self._common
        return SharedReads(self.of(namespace), self._common, self.scope(namespace))
