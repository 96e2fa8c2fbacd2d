"""Dropping the chunk KV that no collection needs any more."""

from pathlib import Path

from blend.store.base import ChunkStore
from precompute.journal import Journal, ids_of_other_journals
from retriever.layout import list_collections, read_manifest


def drop_gone(store: Path, collection: str, chunks: ChunkStore, journal: Journal) -> int:
    """Drop what this collection needed once and nobody needs now, then close the journal.

    Call it when the collection's new manifest is published.

    Returns:
        Number of chunks dropped; one that another collection refers to stays.

    Raises:
        CollectionError: another collection's manifest is damaged, so what it needs is not known; nothing
            was dropped, and the journal stays for the next run.
    """
    candidates = journal.read()
    for name in list_collections(store):
        candidates -= read_manifest(store, name).chunk_ids
    candidates -= ids_of_other_journals(store, collection)
    gone = [chunk_id for chunk_id in candidates if chunk_id in chunks]
    for chunk_id in gone:
        chunks.delete(chunk_id)
    journal.clear()
    return len(gone)
