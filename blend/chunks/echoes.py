"""Computing a chunk's echo: it is read twice in a row, and the second reading is kept."""

from collections.abc import Sequence

from blend.chunks.chunk import ChunkKV, ChunkRecord


def twice(records: Sequence[ChunkRecord]) -> list[ChunkRecord]:
    """What is to be computed for echoes: their tokens twice, behind what the first reading stands behind.
    Chunks that are no echoes stay. What is read twice is not stored, so it has no key."""
    return [
        ChunkRecord("", one.token_ids * 2, one.base_ids, one.leap) if one.is_echo else one for one in records
    ]


def second(records: Sequence[ChunkRecord], computed: Sequence[ChunkKV]) -> list[ChunkKV]:
    """The echoes out of what was computed; what is none stays."""
    return [
        _second(record, chunk) if record.is_echo else chunk
        for record, chunk in zip(records, computed, strict=True)
    ]


def _second(record: ChunkRecord, chunk: ChunkKV) -> ChunkKV:
    # Copies, so that the first reading does not stay in memory.
    keys, values = (rows[:, record.num_tokens :].clone() for rows in (chunk.keys, chunk.values))
    return ChunkKV(record, keys, values)
