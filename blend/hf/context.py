"""The cached rows of a context: stored rows, realigned to their positions."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from blend.chunks.chunk import ChunkKV
from blend.errors import RequestError
from blend.hf.decoder import KVLayout
from blend.maths.rope import realign, rotation
from blend.plan.plan import BlendPlan, Span, within


@dataclass(frozen=True, slots=True)
class Context:
    """Keys and values [L, N, H, D] of a context, and which rows are cold or exact (bool [N], on the CPU)."""

    keys: torch.Tensor
    values: torch.Tensor
    cold: torch.Tensor
    exact: torch.Tensor


def realign_chunks(layout: KVLayout, plan: BlendPlan, chunks: Sequence[ChunkKV]) -> Context:
    """Stored rows at their positions in the context; rows that no chunk covers are zero and cold."""
    stored = {chunk.record.chunk_id: chunk for chunk in chunks}
    shape = (layout.num_layers, plan.num_tokens, layout.num_heads, layout.head_size)
    keys = torch.zeros(shape, dtype=layout.dtype, device=layout.device)
    values = torch.zeros_like(keys)
    cold, exact = (
        torch.ones(plan.num_tokens, dtype=torch.bool),
        torch.zeros(plan.num_tokens, dtype=torch.bool),
    )
    for span in plan.spans:
        chunk = stored.get(span.record.chunk_id)
        if chunk is None:
            continue
        _check(layout, span, chunk)
        rows = slice(span.start, min(span.stop, plan.num_tokens))
        own = slice(0, rows.stop - rows.start)  # without the last row of a chunk that ends the prompt
        keys[:, rows], values[:, rows] = _moved(layout, chunk, own, span.start)
        cold[rows], exact[rows] = False, span.exact and chunk.is_lossless
        echo = None if span.echoed is None else stored.get(span.echoed.record.chunk_id)
        if span.echoed is not None and echo is not None:
            _check(layout, span, echo)
            for first, stop in within(span.echoed.rows, 0, own.stop):
                echoed = slice(span.start + first, span.start + stop)
                keys[:, echoed], values[:, echoed] = _moved(layout, echo, slice(first, stop), span.start)
    return Context(keys, values, cold, exact)


def _moved(layout: KVLayout, chunk: ChunkKV, own: slice, start: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Some rows of a chunk whose first token stands at `start`."""
    turn = rotation(layout.table, start - chunk.record.offset)
    keys = realign(chunk.keys[:, own].to(layout.device), turn, layout.interleaved)
    return keys, chunk.values[:, own].to(layout.device)


def _check(layout: KVLayout, span: Span, chunk: ChunkKV) -> None:
    expected = (layout.num_layers, span.record.num_tokens, layout.num_heads, layout.head_size)
    if chunk.keys.shape != expected or chunk.keys.dtype != layout.dtype:
        raise RequestError(
            f"got chunk KV of {chunk.keys.dtype} {tuple(chunk.keys.shape)}, "
            f"expected {layout.dtype} {expected}; compute the chunk with this model"
        )
