"""Chunks that are computed in two parts: echoes, and chunks with a position gap among their own tokens.

An echo is computed by running the chunk's tokens twice in a row; the second read is the echo.

A position gap is computed by moving what stands in front of it. Rotary attention sees distances only: keys
turned back by the skipped positions are as far from all that follows as if other text stood in between, and
the tokens that follow keep their own positions.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from blend.chunks.chunk import ChunkKV, ChunkRecord
from blend.maths.rope import realign, rotation


def double_reads(records: Sequence[ChunkRecord]) -> list[ChunkRecord]:
    """What to compute for the records: for an echo, its tokens twice, behind what the first read stands
    behind.

    Other chunks are returned as they are. A double read is never stored, so it has no chunk id.
    """
    return [
        ChunkRecord("", record.token_ids * 2, record.base_ids, record.position_gap)
        if record.is_echo
        else record
        for record in records
    ]


def second_reads(records: Sequence[ChunkRecord], computed: Sequence[ChunkKV]) -> list[ChunkKV]:
    """Cut the echoes out of their double reads; other chunks are returned as they are."""
    return [
        _second_read(record, chunk) if record.is_echo else chunk
        for record, chunk in zip(records, computed, strict=True)
    ]


def _second_read(record: ChunkRecord, chunk: ChunkKV) -> ChunkKV:
    # Copies, so that the first read does not stay in memory.
    keys, values = (rows[:, record.num_tokens :].clone() for rows in (chunk.keys, chunk.values))
    return ChunkKV(record, keys, values)


def halves(record: ChunkRecord) -> tuple[ChunkRecord, ChunkRecord]:
    """The tokens in front of a position gap and those behind it, as chunks. Neither is stored or has an id.

    Compute the first, move it with `move_back`, then compute the second behind it.

    Args:
        record: with an empty prefix and a position gap among its own tokens.
    """
    gap, ids = record.position_gap, record.token_ids
    assert gap is not None and not record.prefix_ids and gap.after < len(ids), f"no gap among {record}"
    front = ids[: gap.after]
    return ChunkRecord("", front, ()), ChunkRecord("", ids[gap.after :], front)


def move_back(front: ChunkKV, by: int, table: torch.Tensor, interleaved: bool) -> ChunkKV:
    """The same rows `by` positions to the left, below zero.

    Args:
        table, interleaved: the model's rotary table and layout, see `blend.maths.rope`.
    """
    moved_by = rotation(table.to(front.keys.device), -by)
    return replace(front, keys=realign(front.keys, moved_by, interleaved))


def join(record: ChunkRecord, front: ChunkKV, rest: ChunkKV) -> ChunkKV:
    """Both halves as one chunk, the front after `move_back`."""
    keys, values = (torch.cat(both, dim=1) for both in ((front.keys, rest.keys), (front.values, rest.values)))
    return ChunkKV(record, keys, values)
