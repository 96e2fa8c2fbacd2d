"""The two versions of a chunk that are stored: behind its prefix alone, and behind prefix and lead.

::

    plain   | prefix |        | chunk |   exact where the chunk stands right behind the prefix
    led     | prefix |  lead  | chunk |   everywhere else: closer to what the chunk is behind others

Which of them a prompt takes is the matcher's rule, see `ChunkMatcher.find`. What to choose from is in their
prefix ids: key, offset and exactness follow from these. Why there is a lead: `blend.text.lead`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from blend.chunk import ChunkRecord, chunk_id, make_record

Ids = tuple[int, ...]


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

    @property
    def led_prefix(self) -> ChunkRecord:
        """Prefix and lead as a chunk: kept so that a chunk can be computed behind them, for no prompt."""
        return make_record(self.model, (), self.prefix_ids + self.lead_ids)

    @property
    def records(self) -> tuple[ChunkRecord, ...]:
        """Of the prefix, where it has tokens, and of prefix and lead."""
        return (self.led_prefix,) if self.prefix is None else (self.prefix, self.led_prefix)

    def versions(self, token_ids: Sequence[int]) -> Versions:
        """Both versions of a chunk."""
        behind = self.prefix_ids + self.lead_ids
        fits = len(behind) + len(token_ids) <= self.max_tokens
        return Versions(
            plain=make_record(self.model, self.prefix_ids, token_ids),
            led=make_record(self.model, behind, token_ids) if fits else None,
        )

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


def ids_of(records: Iterable[ChunkRecord]) -> frozenset[str]:
    """Ids of records."""
    return frozenset(record.chunk_id for record in records)


def _ends_with(ids: Ids, end: Ids) -> bool:
    return bool(end) and ids[-len(end) :] == end
