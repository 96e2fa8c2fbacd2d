"""Chunk KV for the laboratory, in every way that its methods know, kept for the prompt that is measured."""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedModel

from blend.chunk import ChunkKV, make_record
from blend.errors import RequestError
from blend.fidelity.method import WRONG
from blend.fidelity.methods import ALONE, LED, PREFIXED
from blend.fidelity.question import Ids, LabPrompt
from blend.hf.chunks import compute_chunks
from blend.text.lead import lead_ids
from blend.text.pieces import PieceTokenizer


class ChunkSource:
    """Computes what is asked for, once per prompt; what stands before chunks is computed once for all.

    Args:
        fingerprint: of the model.
        tokenizer: the model's own, for the lead.
    """

    def __init__(self, model: PreTrainedModel, fingerprint: str, tokenizer: Any) -> None:
        self._model = model
        self._fingerprint = fingerprint
        self._lead = lead_ids(PieceTokenizer(tokenizer).encode)
        self._prefixes: dict[Ids, ChunkKV] = {}
        self._prompt: LabPrompt | None = None
        self._known: dict[tuple[Ids, Ids], ChunkKV] = {}

    def of(self, prompt: LabPrompt, kind: str) -> list[ChunkKV]:
        """The prefix's own KV and that of all chunks, ready for a blend of this prompt.

        Raises:
            RequestError: chunks are not computed in this way.
        """
        if prompt is not self._prompt:
            self._prompt, self._known = prompt, {}
        prefix = self._prefix(prompt.prefix_ids)
        led = prompt.prefix_ids + self._lead
        if kind == WRONG:
            return [*prefix, *self._wrong(prompt)]
        if kind == ALONE:
            return [*prefix, *self._behind((), prompt.chunks)]
        if kind == PREFIXED:
            return [*prefix, *self._behind(prompt.prefix_ids, prompt.chunks)]
        if kind == LED:
            first = [] if prompt.before_ids else self._behind(prompt.prefix_ids, prompt.chunks[:1])
            return [*prefix, *first, *self._behind(led, prompt.chunks)]
        raise RequestError(f"got chunks {kind!r}, expected {ALONE}, {PREFIXED}, {LED} or {WRONG}")

    def clear(self) -> None:
        """Let go of everything."""
        self._prompt, self._known, self._prefixes = None, {}, {}

    def _prefix(self, ids: Ids) -> list[ChunkKV]:
        if ids and ids not in self._prefixes:
            (self._prefixes[ids],) = compute_chunks(self._model, [make_record(self._fingerprint, (), ids)])
        return [self._prefixes[ids]] if ids else []

    def _behind(self, prefix_ids: Ids, chunks: Sequence[Ids]) -> list[ChunkKV]:
        missing = [ids for ids in dict.fromkeys(chunks) if (prefix_ids, ids) not in self._known]
        records = [make_record(self._fingerprint, prefix_ids, ids) for ids in missing]
        self._prefix(prefix_ids)
        for ids, chunk in zip(missing, compute_chunks(self._model, records, self._prefixes), strict=True):
            self._known[prefix_ids, ids] = chunk
        return [self._known[prefix_ids, ids] for ids in chunks]

    def _wrong(self, prompt: LabPrompt) -> list[ChunkKV]:
        """KV of other texts under the records of the right ones."""
        records = [make_record(self._fingerprint, prompt.prefix_ids, ids) for ids in prompt.chunks]
        wrong = self._behind(prompt.prefix_ids, prompt.wrong_chunks)
        return [ChunkKV(record, kv.keys, kv.values) for record, kv in zip(records, wrong, strict=True)]
