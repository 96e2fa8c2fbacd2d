"""Computes chunk KV on a Hugging Face model: each chunk alone behind its prefix, whose rows are dropped."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from blend.chunks.chunk import ChunkKV, ChunkRecord, PositionGap
from blend.chunks.parts import double_reads, halves, join, move_back, second_reads
from blend.errors import RequestError
from blend.hf.decoder import decoder_of, kv_layout
from blend.models.blendable import check_blendable

Behind = tuple[tuple[int, ...], PositionGap | None]
"""Token ids that chunks are computed behind, and a position gap among them."""

PrefixKV = Mapping[Behind, ChunkKV]
"""KV of the prefixes that chunks are computed behind: a prefix, or a prefix and the lead."""


@torch.no_grad()
def compute_chunks(
    model: PreTrainedModel, records: Sequence[ChunkRecord], prefixes: PrefixKV | None = None
) -> list[ChunkKV]:
    """Chunk KV of several chunks. Chunks behind one prefix are one batch, and their prefix is computed once;
    an echo is batched by the prefix of its first read.

    Args:
        model: a decoder with rotary positions.
        records: what to compute; prefixes and lengths may differ.
        prefixes: KV of known prefixes; the others are computed.

    Returns:
        One per record, in their order, on the model's device.

    Raises:
        NotBlendable: the model's KV cannot be blended.
        RequestError: a prefix's KV is that of other tokens.
    """
    check_blendable(model.config)
    found: dict[int, ChunkKV] = {}
    wanted = double_reads(records)
    for behind, places in _by_prefix(wanted).items():
        batch = _behind(model, behind, [wanted[place] for place in places], prefixes or {})
        found.update(zip(places, batch, strict=True))
    return second_reads(records, [found[place] for place in range(len(records))])


def compute_chunk(model: PreTrainedModel, record: ChunkRecord) -> ChunkKV:
    """Chunk KV of one chunk; see `compute_chunks`."""
    return compute_chunks(model, [record])[0]


def _by_prefix(records: Sequence[ChunkRecord]) -> dict[Behind, list[int]]:
    groups: dict[Behind, list[int]] = {}
    for place, record in enumerate(records):
        groups.setdefault((record.prefix_ids, record.position_gap), []).append(place)
    return groups


def _behind(
    model: PreTrainedModel, behind: Behind, records: Sequence[ChunkRecord], known: PrefixKV
) -> list[ChunkKV]:
    ids, position_gap = behind
    if ids:
        return _compute_batch(model, records, _prefix(model, behind, known))
    if position_gap is None:
        return _compute_batch(model, records, None)
    return [_across_gap(model, record, position_gap, known) for record in records]


def _across_gap(
    model: PreTrainedModel, record: ChunkRecord, position_gap: PositionGap, known: PrefixKV
) -> ChunkKV:
    before, behind = halves(record)
    layout = kv_layout(model, before.token_ids, position_gap.by + 1)
    front = _prefix(model, (before.token_ids, None), known)
    front = move_back(front, position_gap.by, layout.table, layout.interleaved)
    (rest,) = _compute_batch(model, [behind], front)
    return join(record, front, rest)


def _prefix(model: PreTrainedModel, behind: Behind, known: PrefixKV) -> ChunkKV:
    prefix, (ids, position_gap) = known.get(behind), behind
    if prefix is None:
        (prefix,) = _behind(model, ((), position_gap), [ChunkRecord("", ids, (), position_gap)], known)
    elif (prefix.record.prefix_ids, prefix.record.token_ids, prefix.record.position_gap) != (
        (),
        ids,
        position_gap,
    ):
        raise RequestError(
            f"got KV of {prefix.record.num_tokens} tokens behind {prefix.record.offset} others for a prefix "
            f"of {len(ids)} tokens, expected that of the prefix's own tokens behind nothing"
        )
    return prefix


def _compute_batch(
    model: PreTrainedModel, records: Sequence[ChunkRecord], prefix: ChunkKV | None
) -> list[ChunkKV]:
    """KV of chunks that all stand behind one prefix."""
    cache, start = DynamicCache(config=model.config), 0
    if prefix is not None:
        start = prefix.record.num_tokens
        for layer, rows in enumerate(zip(prefix.keys, prefix.values, strict=True)):
            copies = (t.to(model.device).transpose(0, 1).expand(len(records), -1, -1, -1) for t in rows)
            cache.update(*copies, layer)  # [B, H, P, D]
    # Padded on the right: causal attention keeps the padding out of every real row.
    longest = max(record.num_tokens for record in records)
    batch = torch.zeros(len(records), longest, dtype=torch.int64, device=model.device)
    for row, record in zip(batch, records, strict=True):
        row[: record.num_tokens] = torch.tensor(record.token_ids)
    positions = torch.arange(start, start + longest, device=model.device).expand(len(records), -1)
    decoder_of(model)(input_ids=batch, position_ids=positions, past_key_values=cache, use_cache=True)
    layers: list[Any] = cache.layers
    keys = torch.stack([layer.keys[:, :, start:] for layer in layers])  # [L, B, H, T, D]
    values = torch.stack([layer.values[:, :, start:] for layer in layers])
    return [
        ChunkKV(record, _own_rows(keys[:, i], record), _own_rows(values[:, i], record))
        for i, record in enumerate(records)
    ]


def _own_rows(rows: torch.Tensor, record: ChunkRecord) -> torch.Tensor:
    own = rows[:, :, : record.num_tokens]  # [L, H, T, D]
    # A copy, so that a chunk does not keep its whole batch in memory.
    return own.transpose(1, 2).contiguous().clone()  # [L, T, H, D]
