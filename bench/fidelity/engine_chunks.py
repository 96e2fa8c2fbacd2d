"""Chunk KV for the laboratory's engine backend: the store holds the chunks of one method at a time."""

import os
from collections.abc import Iterable
from pathlib import Path

from bench.fidelity.kinds import prefixes_of, records_of
from bench.fidelity.methods import ECHOED, LED, WRONG
from bench.fidelity.question import Ids, LabPrompt
from blend.chunks.chunk import ChunkKV, ChunkRecord, chunk_id, computable_batches, make_record
from blend.store.tiers.disk import DiskStore
from blend.store.tiers.ledger import SUFFIX
from blend.text.lead import lead_ids
from blend.vllm.engine.engine import Engine


class EngineChunks:
    """Fills an engine's store with chunk KV for one method at a time.

    The engine blends from the best version of a chunk that it finds. The chunks of other methods therefore
    lie in a second folder: computed once per prompt, moved there and back by renaming.

    Args:
        engine: its store belongs to this object alone.
        shelf: a folder on the file system of the engine's store.
    """

    def __init__(self, engine: Engine, shelf: Path) -> None:
        self._engine = engine
        self._shelf = DiskStore(shelf)
        self._lead = lead_ids(engine.encode)
        self._prompt: LabPrompt | None = None
        self._lasting: set[str] = set()

    def show(self, prompt: LabPrompt, kind: str) -> None:
        """Let the engine find chunk KV of one kind for a prompt, and of no other kind.

        Raises:
            RequestError: chunks are not computed in this way.
            StoreError: what is computed cannot be stored.
        """
        if prompt is not self._prompt:
            self._prompt = prompt
            self._forget_chunks()
        standing = self._standing(prompt, kind)
        self._lasting |= {record.chunk_id for record in standing}
        self._take_down(standing)
        self._compute(standing)
        wanted = [*standing, *(self._wrong(prompt) if kind == WRONG else self._chunks(prompt, kind))]
        self._put_away({record.chunk_id for record in wanted})

    def _standing(self, prompt: LabPrompt, kind: str) -> list[ChunkRecord]:
        """The own KV of what stands before chunks: the prefix's, and with the lead that of both."""
        prefixes = prefixes_of(prompt, self._engine.fingerprint, self._lead)
        return list(prefixes.heads(map(len, prompt.chunks) if kind in (LED, ECHOED) else ()))

    def _chunks(self, prompt: LabPrompt, kind: str) -> list[ChunkRecord]:
        records = records_of(prompt, kind, self._engine.fingerprint, self._lead)
        self._take_down(records)
        self._compute(records)
        return records

    def _wrong(self, prompt: LabPrompt) -> list[ChunkRecord]:
        """KV of other texts, found where the right ones stand, under ids of its own.

        The right chunks' ids cannot be used: workers cache what they have read, and a chunk never changes
        under its id.
        """
        pairs = dict(zip(prompt.chunks, prompt.wrong_chunks, strict=True))
        sources = [self._record(prompt.prefix_ids, wrong) for wrong in pairs.values()]
        records = [
            ChunkRecord(chunk_id(f"in place of {source.chunk_id}", (), ids), ids, prompt.prefix_ids)
            for ids, source in zip(pairs, sources, strict=True)
        ]
        self._take_down([*sources, *records])
        self._compute(sources)
        store = self._engine.store
        for record, source in zip(records, sources, strict=True):
            kv = store.get(source)
            assert kv is not None, "it was computed just now"
            store.put(ChunkKV(record, kv.keys, kv.values))
        return records

    def _record(self, prefix_ids: Ids, token_ids: Ids) -> ChunkRecord:
        return make_record(self._engine.fingerprint, prefix_ids, token_ids)

    def _compute(self, records: Iterable[ChunkRecord]) -> None:
        """Compute the records that are not in the store."""
        missing = (record for record in records if record.chunk_id not in self._engine.store)
        for batch in computable_batches(missing, self._engine.max_batch_tokens):
            self._engine.compute(batch)

    def _take_down(self, records: Iterable[ChunkRecord]) -> None:
        for chunk in {record.chunk_id for record in records}:
            if chunk in self._shelf:
                _move(chunk, self._shelf, self._engine.store)

    def _put_away(self, wanted: set[str]) -> None:
        for chunk in set(self._engine.store.ids()) - wanted:
            _move(chunk, self._engine.store, self._shelf)

    def _forget_chunks(self) -> None:
        for store in (self._engine.store, self._shelf):
            for chunk in set(store.ids()) - self._lasting:
                store.delete(chunk)


def _move(chunk: str, source: DiskStore, target: DiskStore) -> None:
    os.replace(source.root / f"{chunk}{SUFFIX}", target.root / f"{chunk}{SUFFIX}")
