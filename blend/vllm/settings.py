"""What the connector's halves are told when the engine starts."""

import hashlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from blend.config import DEFAULTS
from blend.ratio import Ratio
from blend.store.base import ChunkStore
from blend.store.config import StoreConfig
from blend.store.layout import chunks_folder, mark_of
from blend.store.stack import open_store

ATTENTIONS = ("auto", "paged", "dense")


@dataclass(frozen=True, slots=True)
class Settings:
    """Goes through vLLM's `kv_connector_extra_config`, so it holds plain values only.

    Attributes:
        store: the store's folder.
        fingerprint: of the model; part of every chunk id.
        engine: what of the engine's own configuration changes numbers or pages; a verdict holds for one.
        gate_key: requests that carry it are blended before the gate has passed: the self-check's own.
        recompute_ratio: of requests that ask for none; None: the calibrated one, else the default.
        shares_blends: whether a blend serves other questions on the same context too, as it is.
        attention: of rows that are recomputed: "paged", "dense", or "auto", the faster one; see
            `blend.vllm.recompute`.
        disk_bytes, memory_bytes, codec: see `blend.store.config.StoreConfig`.
    """

    store: str
    fingerprint: str
    engine: str
    gate_key: str
    recompute_ratio: Ratio | None = None
    selector: str = DEFAULTS.selector
    shares_blends: bool = False
    attention: str = "auto"
    disk_bytes: int | None = None
    memory_bytes: int = DEFAULTS.memory_bytes
    codec: str = DEFAULTS.codec

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
        return chunks_folder(Path(self.store), mark_of(self.fingerprint))

    def open_store(self) -> ChunkStore:
        """The model's chunks, through the tiers that are configured.

        Raises:
            StoreError: its folder cannot be made.
        """
        config = StoreConfig(Path(self.store), self.disk_bytes, self.memory_bytes, self.codec)
        return open_store(config, self.chunks_folder)

    def to_extra_config(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_extra_config(cls, extra: dict[str, Any]) -> "Settings":
        """Inverse of `to_extra_config`.

        Raises:
            ValueError: a key is unknown.
        """
        unknown = set(extra) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"unknown kv_connector_extra_config keys {sorted(unknown)}")
        return cls(**extra)
