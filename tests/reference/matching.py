"""Finding known chunks by trying each of them at each position."""

from collections.abc import Sequence

from blend.chunks.chunk import ChunkRecord


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
    here = [r for r in here if r.prefix_ids[len(r.prefix_ids) - r.num_tokens :] != r.token_ids] or here
    exact = [r for r in here if r.prefix_ids == prompt[:start] and r.position_gap is None]
    if exact:
        return exact[-1]
    with_prefix = [r for r in here if r.prefix_ids] or here
    nearest = [r for r in with_prefix if _common(r, prompt) == max(_common(o, prompt) for o in with_prefix)]
    longest = [r for r in nearest if r.offset == max(o.offset for o in nearest)]
    return [r for r in longest if r.position_gap][-1] if any(r.position_gap for r in longest) else longest[-1]


def _common(record: ChunkRecord, prompt: tuple[int, ...]) -> int:
    """Length of the longest beginning that the record's prefix has in common with the prompt."""
    return max(n for n in range(record.offset + 1) if prompt[:n] == record.prefix_ids[:n])
