"""Remote calls that compute chunks: what is sent to the workers, and what they reply. Imports no vllm."""

from collections.abc import Sequence

from blend.chunks.chunk import ChunkRecord, PositionGap, make_record
from blend.errors import RequestError, StoreError, StoreFull

Behind = tuple[list[int], tuple[int, int] | None, bool]
"""What chunks are computed behind: token ids, a position gap among them as `(after, by)` or None, and whether
the chunks are echoes, so that their own tokens stand there too."""


def as_batch(
    records: Sequence[ChunkRecord], not_blendable: str | None = None
) -> tuple[Behind, list[list[int]]]:
    """What chunks are computed behind, and their token ids, as `BlendWorker` takes them.

    Args:
        not_blendable: why the model cannot be blended, or None.

    Raises:
        RequestError: the chunks have different prefixes.
        StoreError: the model cannot be blended.
    """
    prefixes = {record.behind for record in records}
    if len(prefixes) != 1:
        raise RequestError(f"got chunks behind {len(prefixes)} prefixes, expected one; call once per prefix")
    if not_blendable is not None:
        raise StoreError(f"the chunk KV of this model cannot be used: {not_blendable}")
    base_ids, position_gap, are_echoes = prefixes.pop()
    behind = (
        list(base_ids),
        None if position_gap is None else (position_gap.after, position_gap.by),
        are_echoes,
    )
    return behind, [list(record.token_ids) for record in records]


def records_of(model: str, behind: Behind, batch: Sequence[Sequence[int]]) -> list[ChunkRecord]:
    """The records of a batch.

    Args:
        model: the part of chunk ids that names the model (and namespace).

    >>> far = make_record("m", (1, 2), (3,), PositionGap(after=1, by=9))
    >>> echo = make_record("m", (1, 2, 3), (3,))
    >>> [records_of("m", *as_batch([one])) == [one] for one in (far, echo)]
    [True, True]
    """
    base_ids, numbers, are_echoes = behind
    position_gap = None if numbers is None else PositionGap(*numbers)
    return [make_record(model, [*base_ids, *(ids if are_echoes else ())], ids, position_gap) for ids in batch]


def stored_bytes(num_bytes: int, kind: str, problem: str) -> int:
    """The number of bytes stored, from a worker's reply.

    >>> stored_bytes(7, "", "")
    7

    Raises:
        StoreFull: no space left; chunks stored before stay.
        StoreError: the store cannot be written to.
    """
    if problem:
        raise (StoreFull if kind == StoreFull.__name__ else StoreError)(problem)
    return num_bytes
