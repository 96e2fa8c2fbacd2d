"""Text that a prompt holds twice: its second place takes rows of a second reading. For the laboratory only.

What stands in a prompt for the second time is known to the model there: it looks back at the first place,
and keys and values are far from those that the text has when it is read once, in a chunk of its own. No token
of another chunk needs to be known for that: a chunk that is read twice in a row shows what its tokens are
when they come again. Its echo is stored beside it, and taken row by row, where the text stood before.
"""

from collections.abc import Callable, Sequence

import torch

from blend.chunk import ChunkKV, ChunkRecord, make_record
from blend.rope import realign, rotation

REPEAT_TOKENS = 6
"""So many tokens in a row that stood before: the last of them, and what goes on so, is read again."""

Compute = Callable[[Sequence[ChunkRecord]], list[ChunkKV]]


def repeated(token_ids: Sequence[int], num: int = REPEAT_TOKENS) -> torch.Tensor:
    """Positions that end `num` tokens which stood before, in the same order: bool [N].

    >>> repeated([1, 2, 3, 9, 1, 2, 3, 4], num=2).tolist()
    [False, False, False, False, False, True, True, False]
    """
    seen: set[tuple[int, ...]] = set()
    found = torch.zeros(len(token_ids), dtype=torch.bool)
    for stop in range(num, len(token_ids) + 1):
        run = tuple(token_ids[stop - num : stop])
        found[stop - 1] = run in seen
        seen.add(run)
    return found


def with_echo(
    chunks: Sequence[ChunkKV],
    starts: Sequence[int],
    prompt_ids: Sequence[int],
    compute: Compute,
    table: torch.Tensor,
    interleaved: bool,
) -> list[ChunkKV]:
    """Chunks with the rows of their echo where the prompt has had the text before.

    Args:
        chunks: behind one prefix, with or without a leap.
        starts: where each stands in the prompt.
        compute: chunk KV of records, in their order.
        table, interleaved: the model's rotary table and layout, see `blend.rope`.

    Returns:
        As many, under the same records.
    """
    again = repeated(prompt_ids)
    rows = [again[start : start + one.record.num_tokens] for start, one in zip(starts, chunks, strict=True)]
    echoing = [one for one, own in zip(chunks, rows, strict=True) if own.any()]
    twice = iter(compute([_twice(one.record) for one in echoing]))
    return [
        _mixed(one, next(twice), own, table, interleaved) if own.any() else one
        for one, own in zip(chunks, rows, strict=True)
    ]


def _twice(record: ChunkRecord) -> ChunkRecord:
    return make_record("echo", record.prefix_ids, record.token_ids * 2, record.leap)


def _mixed(
    once: ChunkKV, twice: ChunkKV, rows: torch.Tensor, table: torch.Tensor, interleaved: bool
) -> ChunkKV:
    num = once.record.num_tokens
    own = rows[None, :, None, None].to(once.keys.device)
    turn = rotation(table.to(once.keys.device), -num)
    keys = realign(twice.keys[:, num:], turn, interleaved)
    return ChunkKV(
        once.record,
        torch.where(own, keys, once.keys),
        torch.where(own, twice.values[:, num:], once.values),
    )
