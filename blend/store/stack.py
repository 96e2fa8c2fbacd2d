"""From a configuration to the tiers that it names, one in front of the other."""

from pathlib import Path

from blend.store.base import ChunkStore
from blend.store.cached import CachedStore
from blend.store.codecs import codec
from blend.store.config import StoreConfig
from blend.store.disk import DiskStore


def open_store(config: StoreConfig, folder: Path) -> ChunkStore:
    """The store of one model, the quickest tier in front.

    Args:
        folder: of the model's chunk files, see `blend.store.layout`.

    Raises:
        StoreError: the folder cannot be made.
    """
    store: ChunkStore = DiskStore(folder, config.disk_bytes, codec(config.codec))
    if config.memory_bytes:
        store = CachedStore(store, config.memory_bytes)
    return store
