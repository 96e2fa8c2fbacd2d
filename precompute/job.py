"""The precompute job: folder -> documents -> chunks -> chunk KV -> store, and text -> index."""

import time
from collections.abc import Iterator

import numpy as np

from blend.chunks.chunk import ChunkRecord, batches, computable_batches
from blend.errors import StoreFull
from precompute.chunked import FolderReader, check_folder
from precompute.config import PrecomputeConfig
from precompute.engine import ChunkEngine
from precompute.events import Computed, Embedded, Finished, Notice, Planned, Report
from precompute.journal import Journal, store_lock
from precompute.plan import Plan, PlannedChunk, make_plan
from precompute.splitter import CHUNKING
from precompute.sweep import drop_gone, keys_of
from retriever.collection import Collection
from retriever.embed import Embedder
from retriever.errors import CollectionError, UnknownCollection
from retriever.index import Vectors
from retriever.manifest import Settings
from retriever.publish import ChunkText, publish

EMBED_AT_ONCE = 64
"""Texts embedded between two progress reports."""


class Precompute:
    """One run over a folder. A second run computes only new chunks, and drops removed ones.

    The job may be killed at any moment: the manifest is published after every chunk that it names is stored,
    the next run finds the chunks that were stored, and nothing is dropped before the manifest is published.
    """

    def __init__(
        self, engine: ChunkEngine, embedder: Embedder, config: PrecomputeConfig, report: Report
    ) -> None:
        self._engine = engine
        self._embedder = embedder
        self._config = config
        self._report = report

    def run(self) -> Finished:
        """Bring the collection up to date with the folder.

        Raises:
            StoreInUse: another job writes to the store.
            PrecomputeError: the folder is missing, or holds no readable document and may not be empty.
            CollectionError: the collection belongs to another model, or cannot be written.
            StoreFull: no space left; stored chunks stay, and the next run continues from them.
        """
        start, config = time.monotonic(), self._config
        check_folder(config.folder, may_be_empty=config.may_be_empty)
        with store_lock(config.store):
            old = self._previous()
            reader = self._reader(old)
            documents = reader.read(config.collection, self._report)
            plan = make_plan(self._engine, config.prefix, documents)
            self._announce(plan)
            journal = Journal(config.store, config.collection)
            gone = frozenset[str]() if old is None else keys_of(self._engine, old, but=plan.ids)
            journal.write(journal.read() | plan.ids | gone)
            computed = self._compute(plan)
            self._check_kept(plan)
            self._publish(plan, old)
            dropped = self._drop(plan, journal)
        self._share(plan)
        finished = self._summary(plan, computed, dropped, reader, time.monotonic() - start)
        self._report(finished)
        return finished

    def _reader(self, old: Collection | None) -> FolderReader:
        config = self._config
        return FolderReader(
            config.folder,
            config.chunk_tokens,
            self._count_tokens,
            old,
            may_be_empty=config.may_be_empty,
            only_removes=config.only_removes,
        )

    def _previous(self) -> Collection | None:
        """The published collection, or None when it must be built from scratch."""
        config = self._config
        try:
            old = Collection.open(config.store, config.collection)
        except UnknownCollection:
            return None
        except CollectionError as error:
            self._report(Notice(f"{error}: rebuilding it"))
            return None
        if old.settings.fingerprint != self._engine.fingerprint:
            raise CollectionError(
                f"collection {config.collection!r} belongs to model {old.settings.model} "
                f"({old.settings.fingerprint[:16]}), got {self._engine.model_name} "
                f"({self._engine.fingerprint[:16]}): use that model, or another collection name"
            )
        if old.settings.namespace != self._engine.namespace:
            raise CollectionError(
                f"collection {config.collection!r} belongs to {_named(old.settings.namespace)}, got "
                f"{_named(self._engine.namespace)}: use that one, or another collection name"
            )
        if old.settings.chunk_tokens != config.chunk_tokens:
            was, now = old.settings.chunk_tokens, config.chunk_tokens
            self._report(Notice(f"chunks have {now} tokens at most, before {was}: rebuilding the collection"))
        if old.settings.prefix != config.prefix:
            self._report(Notice("the prefix has changed: rebuilding the collection"))
        if old.settings.embedder != self._embedder.name:
            then, name = old.settings.embedder, self._embedder.name
            self._report(Notice(f"the embedding model is {name}, before {then}: embedding all chunks again"))
        return old

    def _count_tokens(self, text: str) -> int:
        return len(self._engine.encode(text))

    def _announce(self, plan: Plan) -> None:
        self._report(
            Planned(
                documents=len(plan.documents),
                chunks=len(plan.chunks),
                reused=len(plan.chunks) - len(plan.to_compute),
                to_compute=len(plan.to_compute),
                tokens_to_compute=plan.tokens_to_compute,
            )
        )

    def _compute(self, plan: Plan) -> Computed:
        """Compute and store missing chunks; prefix and lead are neither counted nor reported."""
        for record in plan.prefixes_to_compute:
            self._engine.compute([record])
        total = len(plan.to_compute), plan.tokens_to_compute
        start = time.monotonic()
        done = Computed(0, total[0], 0, total[1], 0, 0.0)
        for batch in batches(plan.to_compute, self._engine.max_batch_tokens):
            missing = computable_batches(self._missing(plan, batch), self._engine.max_batch_tokens)
            num_bytes = sum(map(self._engine.compute, missing))
            if self._engine.exchange is not None:
                self._engine.exchange.send(key for chunk in batch for key in chunk.ids)
            done = Computed(
                chunks=done.chunks + len(batch),
                chunks_total=total[0],
                tokens=done.tokens + sum(chunk.num_tokens for chunk in batch),
                tokens_total=total[1],
                bytes=done.bytes + num_bytes,
                seconds=time.monotonic() - start,
            )
            self._report(done)
        return done

    def _share(self, plan: Plan) -> None:
        """Send missing chunks to the remote; chunks on disk stay, also when that fails."""
        exchange = self._engine.exchange
        if exchange is None:
            return
        shared = exchange.flush(plan.ids)
        name = exchange.remote.connection.name
        if shared.problem is None:
            self._report(Notice(f"{shared.sent} chunks sent to remote {name}"))
        else:
            self._report(
                Notice(
                    f"{shared.missing} chunks are in the folder, but not on remote {name}: {shared.problem}; "
                    "run again to send them"
                )
            )

    def _check_kept(self, plan: Plan) -> None:
        """Check that the byte budget did not make the store evict chunks of this very plan."""
        versions = frozenset[str]().union(*(chunk.ids for chunk in plan.chunks))
        evicted = versions - set(self._engine.store.ids())
        if evicted:
            raise StoreFull(
                f"got a byte budget too small for this collection: {len(evicted)} of its {len(versions)} "
                "versions of chunks were evicted while others were stored; raise disk_bytes (`kvblend store "
                "config` shows it) or take fewer documents, and run again"
            )

    def _missing(self, plan: Plan, batch: list[PlannedChunk]) -> Iterator[ChunkRecord]:
        """Missing versions of chunks, one kind of version after the other."""
        versions = [plan.prefixes.versions(self._engine.encode(chunk.text)) for chunk in batch]
        found = [one.plain.chunk_id for one in versions]
        assert found == [chunk.chunk_id for chunk in batch], "the engine encodes one text in two ways"
        kinds = zip(*((one.plain, one.led, one.echo) for one in versions), strict=True)
        for records in kinds:
            yield from (record for record in records if record and record.chunk_id in plan.missing)

    def _publish(self, plan: Plan, old: Collection | None) -> None:
        config = self._config
        settings = Settings(
            name=config.collection,
            model=self._engine.model_name,
            fingerprint=self._engine.fingerprint,
            prefix=config.prefix,
            prefix_chunk_id=plan.prefixes.prefix.chunk_id if plan.prefixes.prefix else None,
            chunk_tokens=config.chunk_tokens,
            chunking=CHUNKING,
            embedder=self._embedder.name,
            namespace=self._engine.namespace,
        )
        chunks = [ChunkText(chunk.chunk_id, chunk.text, chunk.num_tokens) for chunk in plan.chunks]
        vectors = self._vectors([chunk.text for chunk in chunks], old)
        publish(config.store, settings, plan.documents, chunks, vectors)

    def _vectors(self, texts: list[str], old: Collection | None) -> Vectors:
        """float32 [len(texts), dim]; a text that was embedded before keeps its vector."""
        vectors = np.empty((len(texts), self._embedder.dim), dtype=np.float32)
        known: dict[str, int] = {}
        if old is not None and old.settings.embedder == self._embedder.name:
            known = {chunk.text: row for row, chunk in enumerate(old.chunks)}
            kept = [row for row, text in enumerate(texts) if text in known]
            vectors[kept] = old.index.vectors[[known[texts[row]] for row in kept]]
        new = [row for row, text in enumerate(texts) if text not in known]
        for start in range(0, len(new), EMBED_AT_ONCE):
            rows = new[start : start + EMBED_AT_ONCE]
            vectors[rows] = self._embedder.embed([texts[row] for row in rows])
            self._report(Embedded(start + len(rows), len(new)))
        return vectors

    def _drop(self, plan: Plan, journal: Journal) -> int:
        try:
            return drop_gone(self._config.store, self._config.collection, self._engine, journal, plan.ids)
        except CollectionError as error:
            self._report(Notice(f"nothing dropped: {error}"))
            return 0

    def _summary(
        self, plan: Plan, computed: Computed, dropped: int, reader: FolderReader, seconds: float
    ) -> Finished:
        return Finished(
            collection=self._config.collection,
            documents=len(plan.documents),
            chunks=len(plan.chunks),
            computed=computed.chunks,
            reused=len(plan.chunks) - computed.chunks,
            dropped=dropped,
            tokens=sum(chunk.num_tokens for chunk in plan.chunks),
            computed_tokens=computed.tokens,
            bytes=computed.bytes,
            seconds=seconds,
            tokens_per_s=computed.tokens_per_s,
            unreadable=reader.unreadable,
            binary=reader.binary,
        )


def _named(namespace: str) -> str:
    return f"namespace {namespace!r}" if namespace else "no namespace"
