"""Asking workers to compute chunks: what is sent to them, and what their reply means. Imports no vllm."""

from collections.abc import Sequence

from blend.chunk import ChunkRecord
from blend.errors import RequestError, StoreError, StoreFull


def as_batch(
    records: Sequence[ChunkRecord], not_blendable: str | None = None
) -> tuple[list[int], list[list[int]]]:
    """Prefix ids and token ids of chunks, as `BlendWorker` takes them.

    Args:
        not_blendable: why the model's chunk KV is of no use, or None.

    Raises:
        RequestError: the chunks do not stand behind one prefix.
        StoreError: the model cannot be blended.
    """
    prefixes = {record.prefix_ids for record in records}
    if len(prefixes) != 1:
        raise RequestError(f"got chunks behind {len(prefixes)} prefixes, expected one; call once for each")
    if not_blendable is not None:
        raise StoreError(f"chunk KV of this model is of no use: {not_blendable}")
    return list(prefixes.pop()), [list(record.token_ids) for record in records]


def stored_bytes(num_bytes: int, kind: str, problem: str) -> int:
    """Bytes that were stored, from a worker's reply.

    >>> stored_bytes(7, "", "")
    7

    Raises:
        StoreFull: no space left; what was stored stays.
        StoreError: the store cannot be written to.
    """
    if problem:
        raise (StoreFull if kind == StoreFull.__name__ else StoreError)(problem)
    return num_bytes
