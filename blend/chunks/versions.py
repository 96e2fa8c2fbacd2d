"""The versions of a chunk that are stored: behind its prefix alone, behind prefix and lead, and its echo.

::

    plain   | prefix | chunk |                                exact right behind the prefix
    led     | prefix | position gap | lead | chunk |          elsewhere: closer to the chunk behind other text
    echo    | prefix | position gap | lead | chunk | chunk |  for rows whose text stood in the prompt before

Which version a prompt takes is the matcher's rule, see `ChunkMatcher.find`. It depends on the prefix ids of
the versions, which also give the id, the offset and whether the rows are exact. Why there is a lead:
`blend.text.lead`.

Only long chunks have a position gap. Nearly all attention of a chunk's tokens goes to tokens near them and to
the prefix. A short chunk stands some hundred tokens behind the prefix, and so does the lead. A long chunk
usually stands behind other long chunks, thousands of tokens behind the prefix, so it is computed that far
from it. Skipped positions cost nothing.

Only chunks that share text with others have an echo. When text stands in a prompt for the second time, the
model looks back at the first time, and its keys and values differ much from those of a first read. They do
not depend on the other chunk's tokens: reading the chunk twice in a row gives them. Which rows are taken from
the
echo: `blend.plan.plan`.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from blend.chunks.chunk import ChunkRecord, PositionGap, chunk_id, make_record
from blend.chunks.shared_text import SharedText

Ids = tuple[int, ...]

LONG_TOKENS = 256
"""Chunks of at least this many tokens are long."""
SKIPPED_POSITIONS = 1000
"""Size of the position gap of a long chunk. From 500 to 3,000 it made no difference to the answers."""


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions of one chunk.

    Attributes:
        plain: behind the prefix. Its id is the chunk's id everywhere else: in manifests, answers, the API.
        led: behind prefix and lead; None for a chunk that is too long for the model's length there.
        echo: behind prefix, lead and the chunk itself; None likewise. Stored only for chunks that share text.
    """

    plain: ChunkRecord
    led: ChunkRecord | None
    echo: ChunkRecord | None

    @property
    def records(self) -> tuple[ChunkRecord, ...]:
        """The versions that are stored of every chunk."""
        return (self.plain,) if self.led is None else (self.plain, self.led)


@dataclass(frozen=True, slots=True)
class Prefixes:
    """What the chunks of a collection are computed behind.

    Attributes:
        model: fingerprint of the model.
        prefix_ids: the collection's prefix; may be empty.
        lead_ids: see `blend.text.lead.lead_ids`.
        max_tokens: the model's length: no token stands beyond it.
    """

    model: str
    prefix_ids: Ids
    lead_ids: Ids
    max_tokens: int

    @property
    def prefix(self) -> ChunkRecord | None:
        """The prefix itself as a chunk, or None when it has no tokens."""
        return make_record(self.model, (), self.prefix_ids) if self.prefix_ids else None

    def led_prefix(self, num_tokens: int) -> ChunkRecord:
        """Prefix and lead as a chunk, behind which chunks of this length are computed; no prompt uses it."""
        return make_record(self.model, (), self.prefix_ids + self.lead_ids, self._position_gap(num_tokens))

    def heads(self, lengths: Iterable[int] = (1, LONG_TOKENS)) -> tuple[ChunkRecord, ...]:
        """Everything that chunks are computed behind, without duplicates, the prefix first.

        Args:
            lengths: of the led chunks, in tokens; by default of all possible ones.
        """
        led = {self._position_gap(num): self.led_prefix(num) for num in lengths}
        return (*(() if self.prefix is None else (self.prefix,)), *led.values())

    def versions(self, token_ids: Sequence[int]) -> Versions:
        """All versions of a chunk."""
        position_gap = self._position_gap(len(token_ids))
        led, echo = self._led(token_ids, position_gap), self._echo(token_ids, position_gap)
        room = self.max_tokens - (position_gap.by if position_gap else 0) - len(token_ids)
        return Versions(
            make_record(self.model, self.prefix_ids, token_ids),
            led if led.offset <= room else None,
            echo if token_ids and echo.offset <= room else None,
        )

    def ever(self, chunks: Iterable[Sequence[int]]) -> Iterator[ChunkRecord]:
        """Everything that may have been stored of some chunks, with whatever model length."""
        unbounded = replace(self, max_tokens=sys.maxsize)
        yield from unbounded.heads()
        for ids in chunks:
            own = unbounded.versions(ids)
            yield from own.records
            yield from (
                record for record in (own.echo, self._led(ids, None), self._echo(ids, None)) if record
            )

    def plain_id(self, record: ChunkRecord) -> str:
        """Id of the plain version of a stored record of this model; its own id when it is neither led nor an
        echo.

        Args:
            record: a chunk behind any prefix, or a prefix with the lead behind it.
        """
        before, own = record.prefix_ids, record.token_ids
        if _ends_with(record.base_ids, self.lead_ids):
            before = record.base_ids
        if _ends_with(before, self.lead_ids):
            return chunk_id(self.model, before[: -len(self.lead_ids)], own)
        if not before and _ends_with(own, self.lead_ids):
            return chunk_id(self.model, (), own[: -len(self.lead_ids)])
        return record.chunk_id

    def _led(self, token_ids: Sequence[int], position_gap: PositionGap | None) -> ChunkRecord:
        return make_record(self.model, self.prefix_ids + self.lead_ids, token_ids, position_gap)

    def _echo(self, token_ids: Sequence[int], position_gap: PositionGap | None) -> ChunkRecord:
        behind = (*self.prefix_ids, *self.lead_ids, *token_ids)
        return make_record(self.model, behind, token_ids, position_gap)

    def _position_gap(self, num_tokens: int) -> PositionGap | None:
        """The gap between prefix and lead for a chunk of this length, or None."""
        farthest = len(self.prefix_ids) + SKIPPED_POSITIONS + len(self.lead_ids) + num_tokens
        needs_gap = num_tokens >= LONG_TOKENS and farthest <= self.max_tokens
        return PositionGap(len(self.prefix_ids), SKIPPED_POSITIONS) if needs_gap and self.prefix_ids else None


def to_store(
    prefixes: Prefixes, chunks: Iterable[Sequence[int]]
) -> tuple[list[ChunkRecord], list[ChunkRecord], list[ChunkRecord]]:
    """Plain and led versions of chunks, and the echoes of chunks that share text with other ones."""
    versions, shared = [prefixes.versions(ids) for ids in chunks], SharedText()
    for version in versions:
        shared.add(version.plain.chunk_id, version.plain.token_ids)
    sharing = shared.keys()
    return (
        [v.plain for v in versions],
        [v.led for v in versions if v.led is not None],
        [v.echo for v in versions if v.echo is not None and v.plain.chunk_id in sharing],
    )


def ids_of(records: Iterable[ChunkRecord]) -> frozenset[str]:
    """Ids of records."""
    return frozenset(record.chunk_id for record in records)


def _ends_with(ids: Ids, end: Ids) -> bool:
    return bool(end) and ids[-len(end) :] == end
