"""Find known chunks in a prompt's token ids."""

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from blend.chunks.chunk import ChunkRecord

Ids = tuple[int, ...]

_ANCHOR_TOKENS = 8
"""First ids of a chunk that are looked up at every position; a shorter chunk is its own anchor."""


class ChunkMatcher:
    """Known chunks, findable by their token ids. Not thread-safe: one owner adds, removes and finds.

    From a position to a chunk in four steps, all on the ids themselves: equality of all ids decides, never
    that of a hash::

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
        """Make a chunk known; a no-op when it is. A chunk without tokens is never found."""
        ids = record.token_ids
        if record.chunk_id in self._records or not ids:
            return
        # Thousands of chunks stand behind one prefix, in several versions: of all ids there is one copy.
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
        """Forget a chunk; a no-op when it is not known."""
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
        self, prompt_ids: Sequence[int], beside: "ChunkMatcher | None" = None
    ) -> list[tuple[int, ChunkRecord]]:
        """Known chunks that stand in a prompt: from left to right, the longest at each place, no overlap.

        Where the same ids are known behind several prefixes, the record is taken whose prefix is all that
        stands before it, and no position was left out; else the one whose prefix begins as the prompt does,
        for the most tokens; of equals the one with the longer prefix (behind a prefix and the lead, see
        `blend.versions`, rather than behind the prefix alone), and of those one with positions left out; then
        the one added last. A record without prefix is taken only at the very start, or where there is no
        other; an echo only where there is nothing else.

        Args:
            beside: more known chunks; of equals, one of this matcher comes first.

        Returns:
            (start, record) pairs in ascending order, as `blend.plan.make_plan` takes them.
        """
        prompt = tuple(prompt_ids)
        matchers = [self] if beside is None else [beside, self]
        found: list[tuple[int, ChunkRecord]] = []
        position = 0
        while position < len(prompt):
            here = [ids for one in matchers if (ids := one._longest_at(prompt, position)) is not None]
            if not here:
                position += 1
                continue
            ids = max(here, key=len)
            variants = [record for one in matchers for record in one._variants.get(ids, {}).values()]
            record = _best_variant([one for one in variants if not one.is_echo] or variants, prompt, position)
            found.append((position, record))
            position += record.num_tokens
        return found

    def echo_of(self, record: ChunkRecord) -> ChunkRecord | None:
        """The second reading of a chunk, behind the first that is given; None when it is not known."""
        variants = self._variants.get(record.token_ids, {}).values()
        behind = (record.prefix_ids, record.leap)
        return next((one for one in variants if one.is_echo and (one.base_ids, one.leap) == behind), None)

    def plain_of(self, record: ChunkRecord) -> ChunkRecord:
        """The version whose id is the chunk's, see `blend.versions`; the record itself where it is that one.

        A record counts as led when no known prefix of these ids goes on from its own; the plain one is then
        the one with the longest prefix that its own goes on from.
        """
        variants = [one for one in self._variants.get(record.token_ids, {}).values() if not one.is_echo]
        if any(_goes_on(other.prefix_ids, record.prefix_ids) for other in variants):
            return record
        begun = [other for other in variants if _goes_on(record.prefix_ids, other.prefix_ids)]
        return max(begun, key=lambda other: other.offset, default=record)

    def _longest_at(self, prompt: Ids, position: int) -> Ids | None:
        # Longer anchors first: a chunk that is its own anchor is shorter than any behind a longer one.
        for length in sorted(self._anchor_lengths.get(prompt[position], ()), reverse=True):
            sharing = self._by_anchor.get(prompt[position : position + length])
            if sharing is not None:
                ids = _longest_prefix(sharing, prompt[position : position + self._max_tokens])
                if ids is not None:
                    return ids
        return None


def _longest_prefix(known: list[Ids], text: Ids) -> Ids | None:
    """The longest of `known` (ascending) that `text` starts with.

    Prefixes of a text sort at or below it. When the nearest below is none, nothing longer than what it
    has in common with the text can be one, and the search goes on from there.
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


def _goes_on(longer: Ids, shorter: Ids) -> bool:
    return len(longer) > len(shorter) and longer[: len(shorter)] == shorter


def _best_variant(variants: list[ChunkRecord], prompt: Ids, start: int) -> ChunkRecord:
    def rank(record: ChunkRecord) -> tuple[bool, bool, int, int, bool]:
        length = len(record.prefix_ids)
        common, is_far = _num_common(record.prefix_ids, prompt), record.leap is not None
        return common == length == start and not is_far, bool(length), common, length, is_far

    # `max` keeps the first of equals, and the last added comes first here.
    return max(reversed(variants), key=rank)
