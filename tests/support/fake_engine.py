"""An engine without a model: words are tokens, random numbers are chunk KV, the store is a real one."""

import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch

from blend.chunks.chunk import ChunkKV, ChunkRecord
from blend.chunks.namespace import scoped
from blend.chunks.versions import Prefixes
from blend.store.layout import chunks_folder, mark_of
from blend.store.remote.exchange import Exchange
from blend.store.tiers.disk import DiskStore
from blend.text.lead import lead_ids
from blend.vllm.worker.chunk_calls import as_batch


class FakeEngine:
    """Implements `precompute.engine.ChunkEngine`, and remembers what it computed."""

    model_name = "fake"
    max_batch_tokens = 100

    def __init__(
        self,
        store: Path,
        fingerprint: str = "fake-fingerprint",
        max_model_len: int = 1000,
        namespace: str = "",
    ) -> None:
        self.fingerprint = fingerprint
        self.namespace = namespace
        self.max_model_len = max_model_len
        self._scope = scoped(fingerprint, namespace)
        self.store = DiskStore(chunks_folder(store, mark_of(self._scope)))
        self.exchange: Exchange | None = None
        self.computed: list[ChunkRecord] = []
        self.calls: list[int] = []

    def encode(self, text: str) -> list[int]:
        return [zlib.crc32(word.encode()) % 2**31 for word in re.findall(r"\s*\S+|\s+$", text)]

    def prefix_ids(self, prefix: str) -> tuple[int, ...]:
        return tuple(self.encode(prefix))

    def prefixes(self, prefix: str) -> Prefixes:
        return Prefixes(self._scope, self.prefix_ids(prefix), lead_ids(self.encode), self.max_model_len)

    def compute(self, records: Sequence[ChunkRecord]) -> int:
        as_batch(records)  # as a real one asks its workers
        stored = 0
        for record in records:
            # A chunk's numbers follow from its id, as those of a real one do.
            generator = torch.Generator().manual_seed(int(record.chunk_id[:15], 16))
            keys = torch.randn(2, record.num_tokens, 1, 4, generator=generator)
            chunk = ChunkKV(record, keys, keys + 1)
            self.computed.append(record)  # before others can see it stored
            self.store.put(chunk)
            stored += chunk.num_bytes
        self.calls.append(sum(record.num_tokens for record in records))
        return stored
