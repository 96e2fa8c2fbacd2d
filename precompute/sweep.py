"""Removal of chunk KV that no collection needs any more."""

from pathlib import Path

from blend.chunks.versions import ids_of
from precompute.engine import ChunkEngine
from precompute.journal import Journal, ids_of_other_journals
from retriever.collection import Collection
from retriever.layout import list_collections, read_manifest


def drop_gone(
    store: Path, collection: str, engine: ChunkEngine, journal: Journal, kept: frozenset[str]
) -> int:
    """Drop chunks of this collection that no collection needs any more, then delete the journal.

    Called after the collection's new manifest is published.

    Args:
        kept: keys of everything that the collection needs now.

    Returns:
        Number of chunks dropped, each in all versions; a chunk of another collection stays in all versions.

    Raises:
        CollectionError: another collection's manifest is damaged, so its chunks are unknown; nothing was
            dropped, and the journal stays for the next run.
    """
    chunks, dropped = engine.store, 0
    prefixes = engine.prefixes("")  # the lead is the same for every prefix
    needed = needed_keys(store, engine) | ids_of_other_journals(store, collection)
    for key in journal.read() - kept - needed:
        if key not in chunks:
            continue
        record = chunks.record(key)
        # Manifests name plain versions; the other versions follow the plain one.
        plain_id = key if record is None else prefixes.plain_id(record)
        if plain_id not in needed:
            chunks.delete(key)
            dropped += plain_id == key
    journal.clear()
    return dropped


def keys_of(engine: ChunkEngine, collection: Collection, but: frozenset[str] = frozenset()) -> frozenset[str]:
    """Keys of everything that a collection has stored: all versions of its chunks, and their prefixes.

    Args:
        but: keys to leave out, with the other versions of chunks whose plain version is among them.
    """
    prefixes = engine.prefixes(collection.settings.prefix)
    texts = [chunk.text for chunk in collection.chunks if chunk.chunk_id not in but]
    return (collection.manifest.chunk_ids | ids_of(prefixes.ever(map(engine.encode, texts)))) - but


def needed_keys(store: Path, engine: ChunkEngine) -> frozenset[str]:
    """Keys that manifests name, and keys of the prefixes of this model's collections."""
    manifests = [read_manifest(store, name) for name in list_collections(store)]
    prefixes = {
        manifest.settings.prefix
        for manifest in manifests
        if (manifest.settings.fingerprint, manifest.settings.namespace)
        == (engine.fingerprint, engine.namespace)
    }
    named = (manifest.chunk_ids for manifest in manifests)
    return frozenset[str]().union(*named, *(ids_of(engine.prefixes(text).heads()) for text in prefixes))
