"""Chunk KV for the laboratory's Hugging Face backend, cached for the prompt that is measured."""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedModel

from bench.fidelity.kinds import records_of
from bench.fidelity.methods import WRONG
from bench.fidelity.question import Ids, LabPrompt
from blend.chunks.chunk import ChunkKV, ChunkRecord, PositionGap, make_record
from blend.hf.chunks import Behind, compute_chunks
from blend.text.lead import lead_ids
from blend.text.pieces import PieceTokenizer


class ChunkSource:
    """Computes chunk KV, once per prompt; KV of prefixes is computed once for all prompts.

    Args:
        fingerprint: of the model.
        tokenizer: the model's own, for the lead.
    """

    def __init__(self, model: PreTrainedModel, fingerprint: str, tokenizer: Any) -> None:
        self._model = model
        self._fingerprint = fingerprint
        self._encode = PieceTokenizer(tokenizer).encode
        self._lead = lead_ids(self._encode)
        self._prefixes: dict[Behind, ChunkKV] = {}
        self._prompt: LabPrompt | None = None
        self._known: dict[str, ChunkKV] = {}

    def of(self, prompt: LabPrompt, kind: str) -> list[ChunkKV]:
        """The prefix's own KV and that of all chunks, ready for a blend of this prompt.

        Raises:
            RequestError: chunks are not computed in this way.
        """
        if prompt is not self._prompt:
            self._prompt, self._known = prompt, {}
        prefix = self._prefix(prompt.prefix_ids)
        if kind == WRONG:
            return [*prefix, *self._wrong(prompt)]
        return [*prefix, *self._computed(records_of(prompt, kind, self._fingerprint, self._lead))]

    def behind_lead(self, texts: Sequence[str]) -> list[ChunkKV]:
        """KV of texts behind the lead alone; not cached."""
        self._prefix(self._lead)
        records = [make_record(self._fingerprint, self._lead, self._encode(text)) for text in texts]
        return compute_chunks(self._model, records, self._prefixes)

    def clear(self) -> None:
        """Release all cached KV."""
        self._prompt, self._known, self._prefixes = None, {}, {}

    def _prefix(self, ids: Ids, position_gap: PositionGap | None = None) -> list[ChunkKV]:
        behind = (ids, position_gap)
        if ids and behind not in self._prefixes:
            record = make_record(self._fingerprint, (), ids, position_gap)
            (self._prefixes[behind],) = compute_chunks(self._model, [record], self._prefixes)
        return [self._prefixes[behind]] if ids else []

    def _computed(self, records: Sequence[ChunkRecord]) -> list[ChunkKV]:
        missing = {record.chunk_id: record for record in records if record.chunk_id not in self._known}
        for record in missing.values():
            self._prefix(record.base_ids, record.position_gap)
        for chunk in compute_chunks(self._model, list(missing.values()), self._prefixes):
            self._known[chunk.record.chunk_id] = chunk
        return [self._known[record.chunk_id] for record in records]

    def _wrong(self, prompt: LabPrompt) -> list[ChunkKV]:
        """KV of other texts under the records of the right ones."""
        prefix = prompt.prefix_ids
        records = [make_record(self._fingerprint, prefix, ids) for ids in prompt.chunks]
        wrong = self._computed([make_record(self._fingerprint, prefix, ids) for ids in prompt.wrong_chunks])
        return [ChunkKV(record, kv.keys, kv.values) for record, kv in zip(records, wrong, strict=True)]
