"""From a configuration to the tiers that it names, one in front of the other."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from blend.report.metrics import Meter
from blend.store.base import ChunkStore
from blend.store.codecs import codec
from blend.store.config import StoreConfig
from blend.store.layout import mark_of_folder
from blend.store.tiers.cached import CachedStore
from blend.store.tiers.device import DeviceStore, resolve_device_bytes
from blend.store.tiers.disk import DiskStore
from blend.store.tiers.place import ALL_HEADS, MEMORY, Place

if TYPE_CHECKING:
    from blend.store.remote.remote import RemoteStore


def open_store(
    config: StoreConfig, folder: Path, meter: Meter | None = None, place: Place | None = None
) -> ChunkStore:
    """The store of one model, the quickest tier in front: device, memory, disk, remote.

    Args:
        folder: of the model's chunk files, see `blend.store.layout`.
        meter: counts what all tiers do.
        place: of a worker: its device, and the heads that its tiers hold. None: all heads, and no device.

    Raises:
        StoreError: the folder cannot be made.
        ConfigError: a package that the remote needs is not installed.
    """
    store: ChunkStore
    store = disk = DiskStore(folder, config.disk_bytes, codec(config.codec), meter)
    remote = open_remote(config, mark_of_folder(folder), meter)
    if remote is not None:
        from blend.store.tiers.backed import BackedStore

        store = BackedStore(disk, remote)
    if config.memory_bytes:
        own = MEMORY if place is None else replace(MEMORY, heads=place.heads)
        store = CachedStore(store, config.memory_bytes, meter, place=own)
        place = place and replace(place, heads=ALL_HEADS)  # of what memory gives: its own heads alone
    device_bytes = 0 if place is None else resolve_device_bytes(config.device_bytes, place.device)
    if place is not None and device_bytes:
        store = DeviceStore(store, device_bytes, place, meter)
    return store


def open_remote(config: StoreConfig, mark: str, meter: Meter | None = None) -> "RemoteStore | None":
    """The remote tier of one model, or None where there is none.

    Raises:
        ConfigError: as `open_store`.
    """
    if config.remote is None:
        return None
    from blend.store.remote.remote import RemoteStore  # engines without a remote do not load it

    return RemoteStore(
        config.remote,
        mark,
        config.remote_bytes,
        codec=codec(config.codec),
        deadline_ms=config.remote_deadline_ms,
        meter=meter,
    )
