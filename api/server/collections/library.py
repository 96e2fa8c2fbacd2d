"""The collections that a server has: their texts, their sources, and searching them."""

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
"""How often a change of a collection on disk is looked for, at most."""


@dataclass(frozen=True, slots=True)
class Contents:
    """Everything that follows from the collections as they were read; replaced whole when one changes.

    Attributes:
        chunk_texts: that a namespace may read, its own and everybody's; "" for everybody's alone.
    """

    retrievers: Mapping[str, Retriever]
    chunk_texts: Mapping[str, ChunkTexts]
    sources: Mapping[str, str]


class Library:
    """Named collections of one store, kept up to date; safe to call from several threads.

    Args:
        store: the store's folder.
        names: of the collections that are there at the start; may be empty.
        opener: loads an embedding model by its name.
        reranker: reads the best candidates of every search again, where the search does not forbid it.
        reader: the namespace of who asks now, for whom other namespaces' collections are not there; unless
            given, all of them are.

    Raises:
        UnknownCollection: there is none of such a name.
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
        """The collections that are there now."""
        retrievers = self._contents.retrievers
        return tuple(name for name, retriever in retrievers.items() if self._shows(retriever))

    def add(self, name: str) -> None:
        """Serve one more collection of the store from now on, or the newest state of one that is served.

        Takes a while. One that was added goes when another server that shares the store removes it.

        Raises:
            UnknownCollection: the store has none of that name.
            RetrieverError: it, or its embedding model, cannot be read.
        """
        with self._reloading:
            self._take([*self._others(name), Collection.open(self.store, name)])
            self._added.add(name)

    def remove(self, name: str) -> None:
        """Serve a collection no more; a no-op where it is not served."""
        with self._reloading:
            self._take(self._others(name))

    def follow(self, names: Callable[[], Iterable[str]], fingerprint: str) -> list[str]:
        """Serve from now on, besides, what the store has and other servers add to it. Takes a while.

        Args:
            names: of collections that are to be served, asked whenever changes are looked for.
            fingerprint: of the served model: collections of others are left out.

        Returns:
            Those of the names that are served now, whoever may read them.
        """
        with self._reloading:
            self._watch.follow(names, fingerprint)
            self._look()
        return [name for name in names() if name in self._contents.retrievers]

    def know_also(self, texts: Sequence[str], namespace: str = "") -> None:
        """Find these texts in a namespace's prompts as well, in place of those given for it before."""
        with self._reloading:
            self._also[namespace] = tuple(texts)
            self._index_also()

    def _others(self, name: str) -> list[Collection]:
        retrievers = self._contents.retrievers
        return [retriever.collection for other, retriever in retrievers.items() if other != name]

    def _take(self, collections: Sequence[Collection]) -> None:
        """Go on with these; only from the start, or while reloading."""
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
        """The model that the collections were computed with; the default one when there are none."""
        settings = [retriever.collection.settings for retriever in self._contents.retrievers.values()]
        return settings[0].model if settings else DEFAULT_MODEL

    def check_model(self, fingerprint: str) -> None:
        """Refuse a model whose KV the collections do not hold.

        Raises:
            ModelError: it is another one than the collections'.
        """
        for name, retriever in self._contents.retrievers.items():
            settings = retriever.collection.settings
            if settings.fingerprint != fingerprint:
                raise ModelError(
                    f"collection {name!r} was computed with {settings.model} ({settings.fingerprint[:16]}), "
                    f"got model {fingerprint[:16]}: leave out --model, or precompute the collection again"
                )

    def chunk_texts(self) -> ChunkTexts:
        """Texts of the chunks that who asks may read, for splitting prompts; quick but after a change."""
        self._keep_up()
        known = self._chunk_texts
        return known.get(self._reader() if self._reader else "", known[""])

    def source_of(self, chunk_id: str) -> str | None:
        """Path of the first document that a chunk stands in, or None."""
        return self._contents.sources.get(chunk_id)

    def namespace_of(self, name: str) -> str:
        """Who may read a collection, "" for everybody.

        Raises:
            UnknownCollection: the library has none of that name.
        """
        return self._retriever(name).collection.settings.namespace

    def _shows(self, retriever: Retriever) -> bool:
        """Whether who asks may know of a collection."""
        return self._reader is None or retriever.collection.settings.namespace in ("", self._reader())

    def prefix_of(self, name: str) -> str:
        """Text that a collection's chunks were computed behind.

        Raises:
            UnknownCollection: the library has none of that name.
        """
        return self._retriever(name).collection.settings.prefix

    def collections(self) -> list[Collection]:
        """The collections as they are now, in the order in which they were named."""
        self._keep_up()
        retrievers = self._contents.retrievers.values()
        return [retriever.collection for retriever in retrievers if self._shows(retriever)]

    def collection(self, name: str) -> Collection:
        """A collection as it is now.

        Raises:
            UnknownCollection: the library has none of that name.
        """
        self._keep_up()
        return self._retriever(name).collection

    def search(self, name: str, query: str, asked: Search = DEFAULT_SEARCH) -> list[Hit]:
        """The chunks of a collection that suit a query. Embeds the query, so it takes a while.

        Raises:
            UnknownCollection: the library has none of that name.
            QueryError: the query is blank.
            EmbedderError: the embedding model cannot be reached.
        """
        self._keep_up()
        return self._retriever(name).search(query, asked)

    def choose(self, name: str, chunk_ids: Sequence[str]) -> list[Hit]:
        """Chunks of a collection by their ids, in the order given.

        Raises:
            UnknownCollection: the library has none of that name.
            QueryError: the collection has no chunk of such an id.
        """
        self._keep_up()
        return self._retriever(name).choose(chunk_ids)

    def retriever(self, name: str) -> Retriever:
        """A collection as it is now, for several looks at one state of it.

        Raises:
            UnknownCollection: the library has none of that name.
        """
        self._keep_up()
        return self._retriever(name)

    def _retriever(self, name: str) -> Retriever:
        retriever = self._contents.retrievers.get(name)
        if retriever is None or not self._shows(retriever):
            there = ", ".join(self.names) or "none"
            raise UnknownCollection(f"no collection {name!r} is served here (there: {there})")
        return retriever

    def _keep_up(self) -> None:
        """Read collections again that changed on disk; others go on with the old contents meanwhile."""
        if time.monotonic() < self._next_look_s or not self._reloading.acquire(blocking=False):
            return
        try:
            self._look()
        finally:
            self._reloading.release()

    def _look(self) -> None:
        """Go on with what is on disk now; only while reloading."""
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
        """An embedding model, loaded once. Takes seconds the first time.

        Raises:
            EmbedderError: it cannot be found, read or reached.
        """
        with self._opening:
            if name not in self._embedders:
                self._embedders[name] = self._opener(name)
            return self._embedders[name]
