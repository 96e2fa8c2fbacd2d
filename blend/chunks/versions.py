"""The versions of a chunk that are stored: behind its prefix alone, behind prefix and lead, and its echo.

::

    plain   | prefix | chunk |                        exact where the chunk stands right behind the prefix
    led     | prefix | leap | lead | chunk |          elsewhere: closer to what the chunk is behind others
    echo    | prefix | leap | lead | chunk | chunk |  for those of its rows whose text stood before

Which of them a prompt takes is the matcher's rule, see `ChunkMatcher.find`. What to choose from is in their
prefix ids: key, offset and exactness follow from these. Why there is a lead: `blend.text.lead`.

The leap is of long chunks only. All that a chunk's tokens see of a prompt is near them but the prefix, which
every prompt begins with and much attention goes to. Short chunks stand some hundred tokens behind it, and so
does the lead; long ones stand among others as long, thousands of tokens behind, and are computed as far
from it: by positions that are left out, which cost nothing.

The echo is of chunks that share text with others. What stands in a prompt for the second time is known there:
the model looks back at the first place, and keys and values are far from those of the text when it is read
once. No other chunk's tokens need to be known for that: a chunk that is read twice in a row shows what its
tokens are when they come again. Which rows are taken from it: `blend.plan`.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from blend.chunks.chunk import ChunkRecord, Leap, chunk_id, make_record
from blend.chunks.shared_text import SharedText

Ids = tuple[int, ...]

LONG_TOKENS = 256
"""A chunk of so many tokens is long."""
LEAP_POSITIONS = 1000


@dataclass(frozen=True, slots=True)
class Versions:
    """One chunk.

    Attributes:
        plain: behind the prefix. Its id is the chunk's id everywhere else: in manifests, answers, the API.
        led: behind prefix and lead, or None for a chunk that is too long to stand there.
        echo: behind what the led one stands behind and the chunk itself, or None likewise. It is stored for
            chunks that need it.
    """

    plain: ChunkRecord
    led: ChunkRecord | None
    echo: ChunkRecord | None

    @property
    def records(self) -> tuple[ChunkRecord, ...]:
        """Of what is stored of every chunk."""
        return (self.plain,) if self.led is None else (self.plain, self.led)


@dataclass(frozen=True, slots=True)
class Prefixes:
    """What the chunks of a collection are computed behind.

    Attributes:
        model: fingerprint of the model.
        prefix_ids: the collection's prefix; may be empty.
        lead_ids: see `blend.text.lead.lead_ids`.
        max_tokens: the model's length: nothing stands beyond it.
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
        """Prefix and lead as a chunk: kept so that chunks of so many tokens can be computed behind them, for
        no prompt."""
        return make_record(self.model, (), self.prefix_ids + self.lead_ids, self._leap(num_tokens))

    def heads(self, lengths: Iterable[int] = (1, LONG_TOKENS)) -> tuple[ChunkRecord, ...]:
        """All that chunks stand behind, each once, the prefix first.

        Args:
            lengths: of chunks that are led; unless given, all that any can stand behind.
        """
        led = {self._leap(num): self.led_prefix(num) for num in lengths}
        return (*(() if self.prefix is None else (self.prefix,)), *led.values())

    def versions(self, token_ids: Sequence[int]) -> Versions:
        """All versions of a chunk."""
        leap = self._leap(len(token_ids))
        led, echo = self._led(token_ids, leap), self._echo(token_ids, leap)
        room = self.max_tokens - (leap.by if leap else 0) - len(token_ids)
        return Versions(
            make_record(self.model, self.prefix_ids, token_ids),
            led if led.offset <= room else None,
            echo if token_ids and echo.offset <= room else None,
        )

    def ever(self, chunks: Iterable[Sequence[int]]) -> Iterator[ChunkRecord]:
        """All that may have been stored of some chunks, whatever the model's length was then."""
        unbounded = replace(self, max_tokens=sys.maxsize)
        yield from unbounded.heads()
        for ids in chunks:
            own = unbounded.versions(ids)
            yield from own.records
            yield from (
                record for record in (own.echo, self._led(ids, None), self._echo(ids, None)) if record
            )

    def plain_id(self, record: ChunkRecord) -> str:
        """Id of what a stored record of this model is the led version, or the echo, of; its own when it is
        neither.

        Args:
            record: a chunk behind any prefix, or a prefix itself with the lead behind it.
        """
        before, own = record.prefix_ids, record.token_ids
        if _ends_with(record.base_ids, self.lead_ids):
            before = record.base_ids
        if _ends_with(before, self.lead_ids):
            return chunk_id(self.model, before[: -len(self.lead_ids)], own)
        if not before and _ends_with(own, self.lead_ids):
            return chunk_id(self.model, (), own[: -len(self.lead_ids)])
        return record.chunk_id

    def _led(self, token_ids: Sequence[int], leap: Leap | None) -> ChunkRecord:
        return make_record(self.model, self.prefix_ids + self.lead_ids, token_ids, leap)

    def _echo(self, token_ids: Sequence[int], leap: Leap | None) -> ChunkRecord:
        behind = (*self.prefix_ids, *self.lead_ids, *token_ids)
        return make_record(self.model, behind, token_ids, leap)

    def _leap(self, num_tokens: int) -> Leap | None:
        """Between prefix and lead, for a chunk of so many tokens."""
        farthest = len(self.prefix_ids) + LEAP_POSITIONS + len(self.lead_ids) + num_tokens
        is_far = num_tokens >= LONG_TOKENS and farthest <= self.max_tokens
        return Leap(len(self.prefix_ids), LEAP_POSITIONS) if is_far and self.prefix_ids else None


def to_store(
    prefixes: Prefixes, chunks: Iterable[Sequence[int]]
) -> tuple[list[ChunkRecord], list[ChunkRecord], list[ChunkRecord]]:
    """Plain and led versions of chunks, and the echoes of those that share text with others of them."""
    versions, shared = [prefixes.versions(ids) for ids in chunks], SharedText()
    for one in versions:
        shared.add(one.plain.chunk_id, one.plain.token_ids)
    sharing = shared.keys()
    return (
        [one.plain for one in versions],
        [one.led for one in versions if one.led is not None],
        [one.echo for one in versions if one.echo is not None and one.plain.chunk_id in sharing],
    )


def ids_of(records: Iterable[ChunkRecord]) -> frozenset[str]:
    """Ids of records."""
    return frozenset(record.chunk_id for record in records)


def _ends_with(ids: Ids, end: Ids) -> bool:
    return bool(end) and ids[-len(end) :] == end
