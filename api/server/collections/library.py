"""The loaded collections of a server: texts, sources, and search."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from api.server.collections.watch import Watch
from blend.errors import ModelError
from blend.settings.defaults import DEFAULT_MODEL
from blend.text.chunk_texts import ChunkTexts
from retriever.collection import Collection
from retriever.embed import Embedder, open_embedder
from retriever.errors import UnknownCollection
from retriever.rerank import Reranker
from retriever.retrieve import Hit, Retriever
from retriever.search import DEFAULT_SEARCH, Search

LOOK_EVERY_S = 1.0
"""Minimum time between two checks for changed collections on disk."""


@dataclass(frozen=True, slots=True)
class Contents:
    """Everything derived from the loaded collections; replaced whole when a collection changes.

    Attributes:
        chunk_texts: readable by a namespace: its own and the public ones; "" for the public ones alone.
    """

    retrievers: Mapping[str, Retriever]
    chunk_texts: Mapping[str, ChunkTexts]
    sources: Mapping[str, str]


class Library:
    """Named collections of one store, kept up to date; safe to call from several threads.

    Args:
        store: the store's folder.
        names: of the collections to load at the start; may be empty.
        opener: loads an embedding model by its name.
        reranker: re-ranks the best candidates of every search that does not forbid it.
        reader: returns the namespace of the current request, which sees its own and the public collections;
            without it all collections are visible.

    Raises:
        UnknownCollection: no collection of such a name.
        RetrieverError: a collection or its embedding model cannot be read.
        ModelError: the collections were computed with different models.
    """

    def __init__(
        self,
        store: Path,
        names: Sequence[str],
        opener: Callable[[str], Embedder] = open_embedder,
        reranker: Reranker | None = None,
        reader: Callable[[], str] | None = None,
    ) -> None:
        self.store = store
        self._reader = reader
        self._opener = opener
        self._reranker = reranker
        self._embedders: dict[str, Embedder] = {}
        self._opening = threading.Lock()
        self._reloading = threading.Lock()
        self._next_look_s = 0.0
        self._also: dict[str, tuple[str, ...]] = {}
        self._added: set[str] = set()
        self._watch = Watch(store)
        asked = tuple(dict.fromkeys(names))
        self._take([Collection.open(store, name) for name in asked])
        fingerprints = {r.collection.settings.fingerprint for r in self._contents.retrievers.values()}
        if len(fingerprints) > 1:
            raise ModelError(
                f"got collections of {len(fingerprints)} different models ({', '.join(asked)}); "
                "serve each model's collections with a server of its own"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the visible collections."""
        retrievers = self._contents.retrievers
        return tuple(name for name, retriever in retrievers.items() if self._shows(retriever))

    def add(self, name: str) -> None:
        """Load a collection of the store, or the newest state of a loaded one. Slow.

        An added collection is unloaded when another server that shares the store removes it.

        Raises:
            UnknownCollection: the store has none of that name.
            RetrieverError: the collection or its embedding model cannot be read.
        """
        with self._reloading:
            self._take([*self._others(name), Collection.open(self.store, name)])
            self._added.add(name)

    def remove(self, name: str) -> None:
        """Unload a collection, if it is loaded."""
        with self._reloading:
            self._take(self._others(name))

    def follow(self, names: Callable[[], Iterable[str]], fingerprint: str) -> list[str]:
        """Also load collections that are in the store now, or that other servers add later. Slow.

        Args:
            names: returns the names of these collections; called at every check for changes.
            fingerprint: of the served model; collections of other models are skipped.

        Returns:
            The loaded ones of these names, whichever namespace owns them.
        """
        with self._reloading:
            self._watch.follow(names, fingerprint)
            self._look()
        return [name for name in names() if name in self._contents.retrievers]

    def know_also(self, texts: Sequence[str], namespace: str = "") -> None:
        """Recognise these texts in a namespace's prompts too; they replace those of the last call."""
        with self._reloading:
            self._also[namespace] = tuple(texts)
            self._index_also()

    def _others(self, name: str) -> list[Collection]:
        retrievers = self._contents.retrievers
        return [retriever.collection for other, retriever in retrievers.items() if other != name]

    def _take(self, collections: Sequence[Collection]) -> None:
        """Replace the contents; called by the constructor and under the lock."""
        self._contents = self._contents_of(collections)
        self._index_also()

    def _index_also(self) -> None:
        known, everybodys = self._contents.chunk_texts, self._also.get("", ())
        self._chunk_texts = {
            name: known.get(name, known[""]).plus((*everybodys, *self._also.get(name, ())))
            for name in {*known, *self._also}
        }

    @property
    def model_name(self) -> str:
        """The collections' model; the default model without collections."""
        settings = [retriever.collection.settings for retriever in self._contents.retrievers.values()]
        return settings[0].model if settings else DEFAULT_MODEL

    def check_model(self, fingerprint: str) -> None:
        """Check that the collections were computed with a model.

        Raises:
            ModelError: a collection was computed with another model.
        """
        for name, retriever in self._contents.retrievers.items():
            settings = retriever.collection.settings
            if settings.fingerprint != fingerprint:
                raise ModelError(
                    f"collection {name!r} was computed with {settings.model} ({settings.fingerprint[:16]}), "
                    f"got model {fingerprint[:16]}: leave out --model, or precompute the collection again"
                )

    def chunk_texts(self) -> ChunkTexts:
        """Texts of the chunks that the current request may read; fast unless a collection has changed."""
        self._keep_up()
        known = self._chunk_texts
        return known.get(self._reader() if self._reader else "", known[""])

    def source_of(self, chunk_id: str) -> str | None:
        """Path of the first document that holds a chunk, or None."""
        return self._contents.sources.get(chunk_id)

    def namespace_of(self, name: str) -> str:
        """Namespace that may read a collection, "" for a public one.

        Raises:
            UnknownCollection: no visible collection of that name.
        """
        return self._retriever(name).collection.settings.namespace

    def _shows(self, retriever: Retriever) -> bool:
        """Whether the current request may see a collection."""
        return self._reader is None or retriever.collection.settings.namespace in ("", self._reader())

    def prefix_of(self, name: str) -> str:
        """Prefix of a collection.

        Raises:
            UnknownCollection: no visible collection of that name.
        """
        return self._retriever(name).collection.settings.prefix

    def collections(self) -> list[Collection]:
        """The visible collections in their current state, in the order of their loading."""
        self._keep_up()
        retrievers = self._contents.retrievers.values()
        return [retriever.collection for retriever in retrievers if self._shows(retriever)]

    def collection(self, name: str) -> Collection:
        """A collection in its current state.

        Raises:
            UnknownCollection: no visible collection of that name.
        """
        self._keep_up()
        return self._retriever(name).collection

    def search(self, name: str, query: str, asked: Search = DEFAULT_SEARCH) -> list[Hit]:
        """The chunks of a collection that match a query. Slow: it embeds the query.

        Raises:
            UnknownCollection: no visible collection of that name.
            QueryError: the query is blank.
            EmbedderError: the embedding model cannot be reached.
        """
        self._keep_up()
        return self._retriever(name).search(query, asked)

    def choose(self, name: str, chunk_ids: Sequence[str]) -> list[Hit]:
        """Chunks of a collection by their ids, in the order given.

        Raises:
            UnknownCollection: no visible collection of that name.
            QueryError: the collection has no chunk of such an id.
        """
        self._keep_up()
        return self._retriever(name).choose(chunk_ids)

    def retriever(self, name: str) -> Retriever:
        """A collection in its current state, for several searches of the same state.

        Raises:
            UnknownCollection: no visible collection of that name.
        """
        self._keep_up()
        return self._retriever(name)

    def _retriever(self, name: str) -> Retriever:
        retriever = self._contents.retrievers.get(name)
        if retriever is None or not self._shows(retriever):
            there = ", ".join(self.names) or "none"
            raise UnknownCollection(f"no collection {name!r} is served here (served: {there})")
        return retriever

    def _keep_up(self) -> None:
        """Reload collections that have changed on disk; other threads use the old contents meanwhile."""
        if time.monotonic() < self._next_look_s or not self._reloading.acquire(blocking=False):
            return
        try:
            self._look()
        finally:
            self._reloading.release()

    def _look(self) -> None:
        """Load what is on disk now; called under the lock."""
        current = [retriever.collection for retriever in self._contents.retrievers.values()]
        read = [self._watch.newest(one, one.settings.name in self._added) for one in current]
        added = self._watch.added(self._contents.retrievers, self.embedder)
        if added or any(new is not old for new, old in zip(read, current, strict=True)):
            self._take([*(collection for collection in read if collection is not None), *added])
            self._added.update(collection.settings.name for collection in added)
        self._next_look_s = time.monotonic() + LOOK_EVERY_S

    def _contents_of(self, collections: Sequence[Collection]) -> Contents:
        retrievers = {
            collection.settings.name: Retriever(
                collection, self.embedder(collection.settings.embedder), self._reranker
            )
            for collection in collections
        }
        chunks = [chunk for collection in collections for chunk in collection.chunks]
        texts: dict[str, list[str]] = {"": []}
        for collection in collections:
            own = texts.setdefault(collection.settings.namespace, [])
            own.extend(chunk.text for chunk in collection.chunks)
        common = ChunkTexts(texts.pop(""))
        return Contents(
            retrievers=retrievers,
            chunk_texts={"": common} | {name: common.plus(own) for name, own in texts.items()},
            sources={chunk.chunk_id: chunk.places[0].source for chunk in chunks},
        )

    def embedder(self, name: str) -> Embedder:
        """An embedding model, loaded once. The first call takes seconds.

        Raises:
            EmbedderError: the model cannot be found, read or reached.
        """
        with self._opening:
            if name not in self._embedders:
                self._embedders[name] = self._opener(name)
            return self._embedders[name]
