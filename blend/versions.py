"""The two versions of a chunk that are stored: behind its prefix alone, and behind prefix and lead.

::

    plain   | prefix | chunk |                  exact where the chunk stands right behind the prefix
    led     | prefix | leap | lead | chunk |    everywhere else: closer to what the chunk is behind others

Which of them a prompt takes is the matcher's rule, see `ChunkMatcher.find`. What to choose from is in their
prefix ids: key, offset and exactness follow from these. Why there is a lead: `blend.text.lead`.

The leap is of long chunks only. All that a chunk's tokens see of a prompt is near them but the prefix, which
every prompt begins with and much attention goes to. Short chunks stand some hundred tokens behind it, and so
does the lead; long ones stand among others as long, thousands of tokens behind, and are computed as far
from it: by positions that are left out, which cost nothing.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from blend.chunk import ChunkRecord, Leap, chunk_id, make_record

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
    """

    plain: ChunkRecord
    led: ChunkRecord | None

    @property
    def records(self) -> tuple[ChunkRecord, ...]:
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

    def led_prefixes(self, lengths: Iterable[int]) -> tuple[ChunkRecord, ...]:
        """Prefix and lead for chunks of such lengths, each once."""
        return tuple({self._leap(num): self.led_prefix(num) for num in lengths}.values())

    def heads(self, lengths: Iterable[int] = (1, LONG_TOKENS)) -> tuple[ChunkRecord, ...]:
        """All that chunks of such lengths stand behind; unless given, that any can stand behind."""
        return (*(() if self.prefix is None else (self.prefix,)), *self.led_prefixes(lengths))

    def versions(self, token_ids: Sequence[int]) -> Versions:
        """Both versions of a chunk."""
        led = self._led(token_ids, self._leap(len(token_ids)))
        fits = led.offset + led.num_tokens <= self.max_tokens
        return Versions(make_record(self.model, self.prefix_ids, token_ids), led if fits else None)

    def ever(self, chunks: Iterable[Sequence[int]]) -> Iterator[ChunkRecord]:
        """All that may have been stored of some chunks, whatever the model's length was then."""
        unbounded = replace(self, max_tokens=sys.maxsize)
        yield from unbounded.heads()
        for ids in chunks:
            yield from unbounded.versions(ids).records
            yield self._led(ids, None)

    def plain_id(self, record: ChunkRecord) -> str:
        """Id of what a stored record of this model is the led version of; its own when it is not led.

        Args:
            record: a chunk behind any prefix, or a prefix itself with the lead behind it.
        """
        before, own = record.prefix_ids, record.token_ids
        if _ends_with(before, self.lead_ids):
            return chunk_id(self.model, before[: -len(self.lead_ids)], own)
        if not before and _ends_with(own, self.lead_ids):
            return chunk_id(self.model, (), own[: -len(self.lead_ids)])
        return record.chunk_id

    def _led(self, token_ids: Sequence[int], leap: Leap | None) -> ChunkRecord:
        return make_record(self.model, self.prefix_ids + self.lead_ids, token_ids, leap)

    def _leap(self, num_tokens: int) -> Leap | None:
        """Between prefix and lead, for a chunk of so many tokens."""
        farthest = len(self.prefix_ids) + LEAP_POSITIONS + len(self.lead_ids) + num_tokens
        is_far = num_tokens >= LONG_TOKENS and farthest <= self.max_tokens
        return Leap(len(self.prefix_ids), LEAP_POSITIONS) if is_far and self.prefix_ids else None


def ids_of(records: Iterable[ChunkRecord]) -> frozenset[str]:
    """Ids of records."""
    return frozenset(record.chunk_id for record in records)


def _ends_with(ids: Ids, end: Ids) -> bool:
    return bool(end) and ids[-len(end) :] == end
