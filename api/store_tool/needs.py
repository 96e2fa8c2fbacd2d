"""Which collections need a stored chunk: as a plain or led version, or for an unfinished job."""

from collections.abc import Callable
from pathlib import Path

from blend.chunks.chunk import ChunkRecord, chunk_id
from blend.chunks.namespace import scoped
from blend.store.layout import mark_of
from precompute.journal import FILE, Journal
from retriever.errors import CollectionError, UnknownCollection
from retriever.layout import list_collections, read_manifest
from retriever.manifest import Manifest, Settings

RecordOf = Callable[[str, str], ChunkRecord | None]
"""Reads the record of a stored chunk, by its model's mark and its id."""


class Needs:
    """The needs of a store's collections, as of now.

    Args:
        record_of: reads the record of a stored chunk.

    Attributes:
        damaged: names of collections whose manifests cannot be read, so that their needs are unknown.
        models: names of models by their marks, for models that a collection names.
    """

    def __init__(self, store: Path, record_of: RecordOf) -> None:
        self._store = store
        self._record_of = record_of
        self._manifests: dict[str, Manifest] = {}
        self.damaged: list[str] = []
        for name in list_collections(store):
            try:
                self._manifests[name] = read_manifest(store, name)
            except CollectionError:
                self.damaged.append(name)
        unfinished = (path.parent.name for path in (store / "collections").glob(f"*/{FILE}"))
        self._unfinished = {name: Journal(store, name).read() for name in unfinished}
        self._chunk_ids = {name: manifest.chunk_ids for name, manifest in self._manifests.items()}
        self._prefixes = {name: self._prefix_ids(manifest) for name, manifest in self._manifests.items()}
        settings = [manifest.settings for manifest in self._manifests.values()]
        self.models = {mark_of(_scope(one)): _whose(one) for one in settings}

    def check(self, name: str) -> None:
        """Check that a collection exists.

        Raises:
            UnknownCollection: no collection of that name.
        """
        if name not in self._manifests and name not in self._unfinished:
            known = ", ".join(sorted({*self._manifests, *self._unfinished})) or "none yet"
            raise UnknownCollection(f"no collection {name!r} in {self._store} (there: {known})")

    def check_known(self) -> None:
        """Check that the needs of all collections are known.

        Raises:
            CollectionError: a manifest is damaged.
        """
        if self.damaged:
            raise CollectionError(
                f"collection {self.damaged[0]!r} is damaged, so the chunks that it needs are unknown: "
                "run kvblend precompute on it first"
            )

    def of(self, mark: str, key: str, record: ChunkRecord | None) -> tuple[str, ...]:
        """Names of the collections that need a chunk.

        Args:
            mark: of its model.
            record: of the chunk, if readable; without it a led version is not recognised.
        """
        named = {name for name, ids in self._chunk_ids.items() if key in ids}
        named |= {name for name, ids in self._unfinished.items() if key in ids}
        if record is not None:
            named |= {name for name in self._manifests if self._is_led(name, mark, record)}
        return tuple(sorted(named))

    def _is_led(self, name: str, mark: str, record: ChunkRecord) -> bool:
        """Whether the chunk without its lead is one that the collection names."""
        scope, prefix = _scope(self._manifests[name].settings), self._prefixes[name]
        if prefix is None or mark_of(scope) != mark:
            return False
        if not record.prefix_ids:  # the prefix, and the lead behind it
            return bool(prefix) and record.token_ids[: len(prefix)] == prefix
        if record.prefix_ids[: len(prefix)] != prefix:
            return False
        return chunk_id(scope, prefix, record.token_ids) in self._chunk_ids[name]

    def _prefix_ids(self, manifest: Manifest) -> tuple[int, ...] | None:
        """Token ids of a collection's prefix, read from any of its stored chunks."""
        settings = manifest.settings
        if settings.prefix_chunk_id is None:
            return ()
        for key in (settings.prefix_chunk_id, *manifest.chunk_ids):
            record = self._record_of(mark_of(_scope(settings)), key)
            if record is not None:
                return record.token_ids if key == settings.prefix_chunk_id else record.prefix_ids
        return None


def _scope(settings: Settings) -> str:
    return scoped(settings.fingerprint, settings.namespace)


def _whose(settings: Settings) -> str:
    return f"{settings.model} of {settings.namespace}" if settings.namespace else settings.model
