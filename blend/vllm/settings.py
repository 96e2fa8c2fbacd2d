"""What the connector's halves are told when the engine starts."""

import hashlib
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blend.chunks.namespace import scoped
from blend.errors import ConfigError
from blend.plan.ratio import Ratio
from blend.plan.sharing import Sharing
from blend.report.metrics import Meter
from blend.settings.defaults import DEFAULTS
from blend.store.base import ChunkStore
from blend.store.config import REMOTE_VARIABLE, StoreConfig
from blend.store.layout import chunks_folder, mark_of
from blend.store.remote.url import HIDDEN, hide
from blend.store.stack import open_remote, open_store
from blend.store.tiers.disk import DiskStore
from blend.store.tiers.place import Place
from blend.vllm.scheduler.known_chunks import BothLists, ChunkList

if TYPE_CHECKING:
    from blend.store.remote.exchange import Exchange

ATTENTIONS = ("auto", "paged", "dense")


@dataclass(frozen=True, slots=True)
class Settings:
    """Goes through vLLM's `kv_connector_extra_config`.

    Attributes:
        store: as configured, but its remote without secrets: vLLM logs what it is started with. A URL with
            secrets is left in the environment, see `redact_remote`.
        fingerprint: of the model; part of every chunk id.
        engine: what of the engine's own configuration changes numbers or pages; a verdict holds for one.
        gate_key: requests that carry it are blended before the gate has passed: the self-check's own.
        recompute_ratio: of requests that ask for none; None: the calibrated one, else the default.
        sharing: what other questions on the same context get of a blend, see `blend.plan.sharing.Sharing`.
        kept_bytes: most bytes that each worker keeps of blends to top up.
        always_blends: a blend is not weighed against full prefill, but for the floor of what must be known.
        attention: of rows that are recomputed: "paged", "dense", or "auto", the faster one; see
            `blend.vllm.job.recompute`.
    """

    store: StoreConfig
    fingerprint: str
    engine: str
    gate_key: str
    recompute_ratio: Ratio | None = None
    selector: str = DEFAULTS.selector
    sharing: str = Sharing.NO.value
    kept_bytes: int = DEFAULTS.kept_bytes
    always_blends: bool = False
    attention: str = "auto"

    @property
    def model_folder(self) -> Path:
        """Where everything that depends on the model lies in the store."""
        return self.chunks_folder.parent

    @property
    def verdict_file(self) -> Path:
        """Where the self-check's verdict on this model in this engine is kept."""
        mark = hashlib.sha256(self.engine.encode()).hexdigest()[:8]
        return self.model_folder / f"verdict-{mark}.json"

    @property
    def chunks_folder(self) -> Path:
        return chunks_folder(self.store.path, mark_of(self.fingerprint))

    @property
    def tiers(self) -> StoreConfig:
        """The store's settings, with the remote's secrets.

        Raises:
            ConfigError: the remote's secrets are not in the environment.
        """
        return self.store.model_copy(update={"remote": restore_remote(self.store.remote)})

    def within(self, namespace: str) -> "Settings":
        """The same with the chunks of one namespace: their keys, their place, their budgets.

        A device holds everybody's chunks alone: its memory does not grow with the number of namespaces.
        """
        if not namespace:
            return self
        memory_bytes = min(self.store.memory_bytes, self.store.namespace_memory_bytes)
        store = self.store.model_copy(update={"memory_bytes": memory_bytes, "device_bytes": 0})
        return replace(self, store=store, fingerprint=scoped(self.fingerprint, namespace))

    def open_store(self, meter: Meter, place: Place | None = None) -> ChunkStore:
        """The model's chunks, through the tiers that are configured; the meter counts what they do.

        Args:
            place: see `blend.store.stack.open_store`.

        Raises:
            StoreError: its folder cannot be made.
            ConfigError: the remote cannot be used as configured.
        """
        return open_store(self.tiers, self.chunks_folder, meter, place)

    def open_list(self, meter: Meter) -> ChunkList:
        """What the model's tiers hold, for who may not wait for a server.

        Raises:
            StoreError, ConfigError: as `open_store`.
        """
        disk = DiskStore(self.chunks_folder, meter=meter)
        remote = open_remote(self.tiers, mark_of(self.fingerprint))
        if remote is None:
            return disk
        from blend.store.remote.view import RemoteView  # engines without a remote do not load it

        view = RemoteView(remote)
        view.start(2 * self.store.remote_deadline_ms / 1e3)
        return BothLists(disk, view)

    def open_exchange(self) -> "Exchange | None":
        """What sends this machine's chunks to the remote and fetches others; None where there is none.

        Raises:
            StoreError, ConfigError: as `open_store`.
        """
        remote = open_remote(self.tiers, mark_of(self.fingerprint))
        if remote is None:
            return None
        from blend.store.remote.exchange import Exchange

        return Exchange(DiskStore(self.chunks_folder, self.store.disk_bytes), remote)

    def to_extra_config(self) -> dict[str, Any]:
        """Plain values."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        return own | {"store": self.store.model_dump(mode="json")}

    @classmethod
    def from_extra_config(cls, extra: dict[str, Any]) -> "Settings":
        """Inverse of `to_extra_config`.

        Raises:
            ValueError: a key is unknown.
        """
        unknown = set(extra) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"unknown kv_connector_extra_config keys {sorted(unknown)}")
        return cls(**{**extra, "store": StoreConfig(**extra["store"])})


def redact_remote(url: str | None) -> str | None:
    """A remote's URL without its secrets, which the environment hands to the engine's processes."""
    if url is None or hide(url) == url:
        return url
    os.environ[REMOTE_VARIABLE] = url
    return hide(url)


def restore_remote(shown: str | None) -> str | None:
    """Inverse of `redact_remote`.

    Raises:
        ConfigError: the environment holds another URL, or none.
    """
    if shown is None or HIDDEN not in shown:
        return shown
    url = os.environ.get(REMOTE_VARIABLE)
    if url is None or hide(url) != shown:
        raise ConfigError(
            f"the secrets of remote {shown} are not in ${REMOTE_VARIABLE}; set it to the whole URL"
        )
    return url
