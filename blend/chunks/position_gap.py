"""Computing over a leap: what stands in front of it is moved away, and the rest is computed behind that.

Rotary attention sees distances only. Keys turned back by the positions that are left out are as far from all
that follows as they would be with other text between, and what follows keeps the positions that it counts.
"""

from dataclasses import replace

import torch

from blend.chunks.chunk import ChunkKV, ChunkRecord
from blend.maths.rope import realign, rotation


def halves(record: ChunkRecord) -> tuple[ChunkRecord, ChunkRecord]:
    """What stands in front of a leap, and what behind, as chunks: the second is to be computed behind the
    first, once that was `moved`. Neither is stored, so they have no keys.

    Args:
        record: behind nothing, with a leap among its own tokens.
    """
    leap, ids = record.leap, record.token_ids
    assert leap is not None and not record.prefix_ids and leap.after < len(ids), f"no leap among {record}"
    front = ids[: leap.after]
    return ChunkRecord("", front, ()), ChunkRecord("", ids[leap.after :], front)


def moved(front: ChunkKV, by: int, table: torch.Tensor, interleaved: bool) -> ChunkKV:
    """The same rows `by` positions to the left, below zero.

    Args:
        table, interleaved: the model's rotary table and layout, see `blend.rope`.
    """
    turn = rotation(table.to(front.keys.device), -by)
    return replace(front, keys=realign(front.keys, turn, interleaved))


def joined(record: ChunkRecord, front: ChunkKV, rest: ChunkKV) -> ChunkKV:
    """Both halves as one chunk; the front was moved."""
    keys, values = (torch.cat(both, dim=1) for both in ((front.keys, rest.keys), (front.values, rest.values)))
    return ChunkKV(record, keys, values)
