"""Dropping the chunk KV that no collection needs any more."""

from pathlib import Path

from blend.versions import ids_of
from precompute.engine import ChunkEngine
from precompute.journal import Journal, ids_of_other_journals
from precompute.plan import Plan
from retriever.layout import list_collections, read_manifest


def drop_gone(store: Path, collection: str, engine: ChunkEngine, journal: Journal, plan: Plan) -> int:
    """Drop what this collection needed once and nobody needs now, then close the journal.

    Call it when the collection's new manifest is published.

    Args:
        plan: what the collection consists of now.

    Returns:
        Number of chunks dropped, each in both versions; one that another collection refers to stays in both.

    Raises:
        CollectionError: another collection's manifest is damaged, so what it needs is not known; nothing
            was dropped, and the journal stays for the next run.
    """
    chunks, dropped = engine.store, 0
    needed = _needed(store, engine) | ids_of_other_journals(store, collection)
    for key in journal.read() - plan.ids - needed:
        if key not in chunks:
            continue
        record = chunks.record(key)
        # Manifests name plain versions; the led one goes and stays with it.
        plain_id = key if record is None else plan.prefixes.plain_id(record)
        if plain_id not in needed:
            chunks.delete(key)
            dropped += plain_id == key
    journal.clear()
    return dropped


def _needed(store: Path, engine: ChunkEngine) -> frozenset[str]:
    """Keys that manifests name, and of what this model's collections are computed behind."""
    manifests = [read_manifest(store, name) for name in list_collections(store)]
    prefixes = {
        manifest.settings.prefix
        for manifest in manifests
        if (manifest.settings.fingerprint, manifest.settings.namespace)
        == (engine.fingerprint, engine.namespace)
    }
    named = (manifest.chunk_ids for manifest in manifests)
    return frozenset[str]().union(*named, *(ids_of(engine.prefixes(text).records) for text in prefixes))
