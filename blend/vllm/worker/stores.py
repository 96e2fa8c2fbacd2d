"""The chunk stores of a worker: one per namespace, opened at its first use."""

from blend.report.metrics import Meter
from blend.store.base import ChunkStore
from blend.store.tiers.place import Place
from blend.store.tiers.shared_reads import ChunkSource, SharedReads
from blend.vllm.settings import Settings


class Stores:
    """Where a worker writes chunks and reads them from.

    Args:
        settings: of the connector.
        meter: counts what all stores do.
        place: of the worker, see `blend.store.stack.open_store`.

    Raises:
        StoreError, ConfigError: the shared store (of no namespace) cannot be opened.
    """

    def __init__(self, settings: Settings, meter: Meter, place: Place | None = None) -> None:
        self._settings = settings
        self._meter = meter
        self._place = place
        self._shared = settings.open_store(meter, place)
        self._by_namespace = {"": self._shared}

    def scope(self, namespace: str) -> str:
        """What the chunk ids of a namespace are made of, see `blend.chunks.namespace.scoped`."""
        return self._settings.within(namespace).fingerprint

    def of(self, namespace: str) -> ChunkStore:
        """The store of a namespace's own chunks.

        Raises:
            StoreError: its folder cannot be made.
        """
        if namespace not in self._by_namespace:
            settings = self._settings.within(namespace)
            self._by_namespace[namespace] = settings.open_store(self._meter, self._place)
        return self._by_namespace[namespace]

    def read_by(self, namespace: str) -> ChunkSource:
        """The chunks that requests of a namespace may use: its own ones and the shared ones.

        Raises:
            StoreError: as `of`.
        """
        if not namespace:
            return self._shared
        return SharedReads(self.of(namespace), self._shared, self.scope(namespace))
