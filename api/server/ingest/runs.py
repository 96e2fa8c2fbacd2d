"""The work of ingestion, in its thread: collections are created, updated and removed."""

import logging
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np

from api.server.collections.library import Library
from api.server.ingest.folders import DocumentFolder
from api.server.ingest.pacing import Interruption, Pace, PacedEmbedder
from blend.chunks.chunk import computable_batches
from blend.chunks.versions import Versions
from precompute.config import DEFAULTS, PrecomputeConfig
from precompute.engine import ChunkEngine
from precompute.events import Event, Finished, Report
from precompute.job import Precompute
from precompute.journal import Journal, ids_of_other_journals, store_lock
from precompute.splitter import CHUNKING
from precompute.sweep import drop_gone, keys_of, needed_keys
from retriever.collection import Collection
from retriever.errors import CollectionError, UnknownCollection
from retriever.layout import MANIFEST, collection_folder, read_manifest
from retriever.manifest import Manifest, Settings
from retriever.publish import publish

logger = logging.getLogger(__name__)


class Runs:
    """One run at a time, in one thread; only `create` may be called concurrently.

    Args:
        library: loads what is published here.
        engine_of: the engine that computes the chunks of a namespace.
        pace, interruption: of the runs, including the embedding.
        embedder: embedding model of new collections.
    """

    def __init__(
        self,
        library: Library,
        engine_of: Callable[[str], ChunkEngine],
        pace: Pace,
        interruption: Interruption,
        embedder: str = DEFAULTS.embedder,
    ) -> None:
        self._library = library
        self._embedder = embedder
        self._store = library.store
        self._engine_of = engine_of
        self._pace = pace
        self._interruption = interruption

    def create(
        self, name: str, prefix: str | None, chunk_tokens: int | None = None, namespace: str = ""
    ) -> None:
        """Publish an empty collection of a namespace, with a folder for its documents.

        Raises:
            CollectionError: the name is invalid, or the store cannot be written to.
            EmbedderError: the embedding model cannot be read.
        """
        folder = DocumentFolder(self._store, name)
        embedder = self._library.embedder(self._embedder)
        engine = self._engine_of(namespace)
        settings = Settings(
            name=name,
            model=engine.model_name,
            fingerprint=engine.fingerprint,
            prefix=DEFAULTS.prefix if prefix is None else prefix,
            prefix_chunk_id=None,  # set when the prefix is stored
            chunk_tokens=DEFAULTS.chunk_tokens if chunk_tokens is None else chunk_tokens,
            chunking=CHUNKING,
            embedder=embedder.name,
            namespace=namespace,
        )
        folder.make()
        publish(self._store, settings, (), (), np.empty((0, embedder.dim), dtype=np.float32))
        self._library.add(name)

    def update(self, name: str, report: Report, *, only_removes: bool = False) -> Manifest:
        """Update a collection from its folder; the new state is served when this returns.

        Raises:
            Interrupted: before publication; the next run resumes.
            StoreInUse: another process writes to the store.
            PrecomputeError, RetrieverError, BlendError: the run has failed.
        """
        settings = read_manifest(self._store, name).settings
        config = PrecomputeConfig(
            DocumentFolder(self._store, name).path,
            self._store,
            name,
            settings.chunk_tokens,
            settings.prefix,
            may_be_empty=True,
            only_removes=only_removes,
        )
        embedder = PacedEmbedder(self._library.embedder(settings.embedder), self._pace, self._interruption)

        def heed(event: Event) -> None:
            if not isinstance(event, Finished):
                self._interruption.heed()
            report(event)

        Precompute(self._engine_of(settings.namespace), embedder, config, heed).run()
        self._library.add(name)
        return read_manifest(self._store, name)

    def remove(self, name: str) -> None:
        """Remove a collection that was set aside, and the chunk KV that no other collection needs.

        Raises:
            StoreInUse: another process writes to the store.
        """
        self._library.remove(name)
        with store_lock(self._store):
            journal, folder = Journal(self._store, name), collection_folder(self._store, name)
            engine = self._engine_of("")
            with suppress(UnknownCollection):  # an earlier removal was stopped here
                collection = Collection.open(self._store, name)
                engine = self._engine_of(collection.settings.namespace)
                journal.write(journal.read() | keys_of(engine, collection))
                (folder / MANIFEST).unlink()
            try:
                drop_gone(self._store, name, engine, journal, frozenset())
            except CollectionError as error:
                logger.warning("chunks of %s stay until `kvblend store gc --unneeded`: %s", name, error)
            shutil.rmtree(folder, ignore_errors=True)
        DocumentFolder(self._store, name).clear()

    def chunk_ids(self, texts: Sequence[str], namespace: str) -> list[str]:
        """Ids of chunks from a namespace's chat requests, by their texts."""
        return [one.plain.chunk_id for one in _versions(self._engine_of(namespace), texts)]

    def lacks(self, texts: Sequence[str], namespace: str) -> list[str]:
        """Texts of such chunks of which the store lacks a version."""
        engine = self._engine_of(namespace)
        found = zip(texts, _versions(engine, texts), strict=True)
        return [text for text, one in found if any(r.chunk_id not in engine.store for r in one.records)]

    def learn(self, texts: Sequence[str], namespace: str) -> None:
        """Compute and store such chunks, if they are missing.

        Raises:
            Interrupted: some chunks have been computed.
            BlendError: as `ChunkEngine.compute`.
        """
        engine = self._engine_of(namespace)
        prefixes, versions = engine.prefixes(DEFAULTS.prefix), _versions(engine, texts)
        led = [one.led for one in versions if one.led is not None]
        heads = prefixes.heads(record.num_tokens for record in led)
        records = [*heads, *(one.plain for one in versions), *led]
        missing = (record for record in records if record.chunk_id not in engine.store)
        for batch in computable_batches(missing, engine.max_batch_tokens):
            engine.compute(batch)

    def unlearn(self, texts: Sequence[str], namespace: str) -> None:
        """Drop such chunks from the store, except those that a collection needs.

        Raises:
            StoreInUse: another process writes to the store.
            CollectionError: a manifest is damaged, so its chunks are unknown; nothing was dropped.
        """
        engine = self._engine_of(namespace)
        with store_lock(self._store):
            needed = needed_keys(self._store, engine) | ids_of_other_journals(self._store, "")
            for one in _versions(engine, texts):
                if one.plain.chunk_id not in needed:
                    for record in one.records:
                        engine.store.delete(record.chunk_id)


def _versions(engine: ChunkEngine, texts: Sequence[str]) -> list[Versions]:
    prefixes = engine.prefixes(DEFAULTS.prefix)
    return [prefixes.versions(engine.encode(text)) for text in texts]
