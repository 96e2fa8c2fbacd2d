"""Find known chunks in a prompt's token ids."""

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from blend.chunks.chunk import ChunkRecord

Ids = tuple[int, ...]

_ANCHOR_TOKENS = 8
"""Number of a chunk's first ids that are looked up at every position; a shorter chunk is its own anchor."""


class ChunkMatcher:
    """An index of known chunks by their token ids. Not thread-safe: one thread adds, removes and finds.

    A lookup takes four steps. All compare token ids, never hashes::

        first id -> anchor lengths -> first ids (anchor) -> all ids -> records
    """

    def __init__(self) -> None:
        self._anchor_lengths: dict[int, Counter[int]] = {}
        self._by_anchor: dict[Ids, list[Ids]] = {}  # ascending, each sequence of ids once
        self._variants: dict[Ids, dict[str, ChunkRecord]] = {}
        self._records: dict[str, ChunkRecord] = {}
        self._prefixes: dict[Ids, Ids] = {}
        self._max_tokens = 0

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, chunk_id: object) -> bool:
        return chunk_id in self._records

    def add(self, record: ChunkRecord) -> None:
        """Add a chunk; does nothing when it is known. A chunk without tokens is never found."""
        ids = record.token_ids
        if record.chunk_id in self._records or not ids:
            return
        # Thousands of chunks share a prefix, and each has several versions: equal ids share one copy.
        known = self._variants.get(ids)
        ids = next(iter(known.values())).token_ids if known else ids
        base = self._prefixes.setdefault(record.base_ids, record.base_ids)
        prefix = base + ids if record.is_echo else base
        record = self._records[record.chunk_id] = replace(record, token_ids=ids, prefix_ids=prefix)
        self._max_tokens = max(self._max_tokens, len(ids))
        if ids in self._variants:
            self._variants[ids][record.chunk_id] = record
            return
        self._variants[ids] = {record.chunk_id: record}
        anchor = ids[:_ANCHOR_TOKENS]
        insort(self._by_anchor.setdefault(anchor, []), ids)
        self._anchor_lengths.setdefault(ids[0], Counter())[len(anchor)] += 1

    def remove(self, chunk_id: str) -> None:
        """Remove a chunk; does nothing when it is not known."""
        record = self._records.pop(chunk_id, None)
        if record is None:
            return
        ids = record.token_ids
        del self._variants[ids][chunk_id]
        if self._variants[ids]:
            return
        del self._variants[ids]
        anchor = ids[:_ANCHOR_TOKENS]
        sharing = self._by_anchor[anchor]
        del sharing[bisect_left(sharing, ids)]
        if not sharing:
            del self._by_anchor[anchor]
        self._anchor_lengths[ids[0]].subtract([len(anchor)])
        self._anchor_lengths[ids[0]] = +self._anchor_lengths[ids[0]]  # drops lengths that count zero

    def find(
        self, prompt_ids: Sequence[int], shared: "ChunkMatcher | None" = None
    ) -> list[tuple[int, ChunkRecord]]:
        """The known chunks in a prompt: left to right, the longest at each position, without overlap.

        When several versions have the same ids, this order decides:

        1. a version that is exact here: its prefix is everything before it, without a position gap;
        2. a version with a prefix; one without is taken only at the very start, or when it is the only one;
        3. the version whose prefix shares the most first tokens with the prompt;
        4. the version with the longer prefix: a led one rather than the plain one (`blend.chunks.versions`);
        5. a version with a position gap;
        6. the version that was added last.

        An echo is taken only when there is no other version.

        Args:
            shared: an index of more known chunks; at a tie, a chunk of this matcher wins.

        Returns:
            (start, record) pairs in ascending order, as `blend.plan.plan.make_plan` takes them.
        """
        prompt = tuple(prompt_ids)
        matchers = [self] if shared is None else [shared, self]
        found: list[tuple[int, ChunkRecord]] = []
        position = 0
        while position < len(prompt):
            here = [ids for m in matchers if (ids := m._longest_at(prompt, position)) is not None]
            if not here:
                position += 1
                continue
            ids = max(here, key=len)
            variants = [record for m in matchers for record in m._variants.get(ids, {}).values()]
            record = _best_variant([v for v in variants if not v.is_echo] or variants, prompt, position)
            found.append((position, record))
            position += record.num_tokens
        return found

    def echo_of(self, record: ChunkRecord) -> ChunkRecord | None:
        """The echo that belongs to a version of a chunk, or None when it is not known."""
        variants = self._variants.get(record.token_ids, {}).values()
        behind = (record.prefix_ids, record.position_gap)
        return next((v for v in variants if v.is_echo and (v.base_ids, v.position_gap) == behind), None)

    def plain_of(self, record: ChunkRecord) -> ChunkRecord:
        """The plain version of a record, whose id is the chunk's id, see `blend.chunks.versions`.

        A record counts as led when no known version has a prefix that continues its prefix. Its plain version
        is then the one with the longest prefix that its own prefix continues.
        """
        variants = [v for v in self._variants.get(record.token_ids, {}).values() if not v.is_echo]
        if any(_continues(other.prefix_ids, record.prefix_ids) for other in variants):
            return record
        begun = [other for other in variants if _continues(record.prefix_ids, other.prefix_ids)]
        return max(begun, key=lambda other: other.offset, default=record)

    def _longest_at(self, prompt: Ids, position: int) -> Ids | None:
        # Longer anchors first: a chunk that is its own anchor is shorter than any chunk with a longer anchor.
        for length in sorted(self._anchor_lengths.get(prompt[position], ()), reverse=True):
            sharing = self._by_anchor.get(prompt[position : position + length])
            if sharing is not None:
                ids = _longest_prefix(sharing, prompt[position : position + self._max_tokens])
                if ids is not None:
                    return ids
        return None


def _longest_prefix(known: list[Ids], text: Ids) -> Ids | None:
    """The longest of `known` (ascending) that `text` starts with.

    Prefixes of a text sort at or below it. When the nearest entry below is no prefix, no entry longer than
    what it shares with the text can be a prefix, so the search continues with that part of the text.
    """
    while text:
        place = bisect_right(known, text)
        if place == 0:
            return None
        below = known[place - 1]
        common = _num_common(below, text)
        if common == len(below):
            return below
        text = text[:common]
    return None


def _num_common(a: Ids, b: Ids) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _continues(longer: Ids, shorter: Ids) -> bool:
    return len(longer) > len(shorter) and longer[: len(shorter)] == shorter


def _best_variant(variants: list[ChunkRecord], prompt: Ids, start: int) -> ChunkRecord:
    def rank(record: ChunkRecord) -> tuple[bool, bool, int, int, bool]:
        length = len(record.prefix_ids)
        common, has_gap = _num_common(record.prefix_ids, prompt), record.position_gap is not None
        return common == length == start and not has_gap, bool(length), common, length, has_gap

    # `max` keeps the first of equals; reversed, that is the version added last.
    return max(reversed(variants), key=rank)
