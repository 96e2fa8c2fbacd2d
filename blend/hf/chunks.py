"""Computing chunk KV: each chunk alone, behind its prefix, whose rows are dropped."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from blend.chunk import ChunkKV, ChunkRecord
from blend.hf.decoder import decoder_of
from blend.models.blendable import check_blendable


@torch.no_grad()
def compute_chunks(model: PreTrainedModel, records: Sequence[ChunkRecord]) -> list[ChunkKV]:
    """Chunk KV of several chunks, computed as one batch.

    Args:
        model: a decoder with rotary positions.
        records: what to compute; prefixes and lengths may differ.

    Returns:
        One per record, in their order, on the model's device.

    Raises:
        NotBlendable: the model's KV cannot be blended.
    """
    check_blendable(model.config)
    if not records:
        return []
    # Padded on the right: causal attention keeps the padding out of every real row.
    longest = max(record.offset + record.num_tokens for record in records)
    batch = torch.zeros(len(records), longest, dtype=torch.int64, device=model.device)
    for row, record in zip(batch, records, strict=True):
        ids = record.prefix_ids + record.token_ids
        row[: len(ids)] = torch.tensor(ids)
    cache = DynamicCache(config=model.config)
    decoder_of(model)(input_ids=batch, past_key_values=cache, use_cache=True)
    layers: list[Any] = cache.layers
    keys = torch.stack([layer.keys for layer in layers])  # [L, B, H, T, D]
    values = torch.stack([layer.values for layer in layers])
    return [
        ChunkKV(record, _own_rows(keys[:, i], record), _own_rows(values[:, i], record))
        for i, record in enumerate(records)
    ]


def compute_chunk(model: PreTrainedModel, record: ChunkRecord) -> ChunkKV:
    """Chunk KV of one chunk; see `compute_chunks`."""
    return compute_chunks(model, [record])[0]


def _own_rows(rows: torch.Tensor, record: ChunkRecord) -> torch.Tensor:
    own = rows[:, :, record.offset : record.offset + record.num_tokens]  # [L, H, T, D]
    # A copy, so that a chunk does not keep its whole batch in memory.
    return own.transpose(1, 2).contiguous().clone()  # [L, T, H, D]
