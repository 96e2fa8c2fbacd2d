"""Finding known chunks by trying each of them at each position."""

from collections.abc import Sequence

from blend.chunk import ChunkRecord


def find(records: Sequence[ChunkRecord], prompt: tuple[int, ...]) -> list[tuple[int, ChunkRecord]]:
    """What `ChunkMatcher.find` must give; records in the order they were added."""
    found = []
    start = 0
    while start < len(prompt):
        here = [r for r in records if prompt[start : start + r.num_tokens] == r.token_ids]
        if not here:
            start += 1
            continue
        longest = max(r.num_tokens for r in here)
        record = _choose([r for r in here if r.num_tokens == longest], prompt, start)
        found.append((start, record))
        start += longest
    return found


def _choose(here: list[ChunkRecord], prompt: tuple[int, ...], start: int) -> ChunkRecord:
    exact = [r for r in here if r.prefix_ids == prompt[:start]]
    if exact:
        return exact[-1]
    behind_start = [r for r in here if r.prefix_ids and prompt[: r.offset] == r.prefix_ids]
    if behind_start:
        longest = max(r.offset for r in behind_start)
        return [r for r in behind_start if r.offset == longest][-1]
    with_prefix = [r for r in here if r.prefix_ids]
    return (with_prefix or here)[-1]
