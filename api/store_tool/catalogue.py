"""The stored chunks of all models. Read-only: a damaged chunk is reported, and stays."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from api.store_tool.needs import Needs
from api.store_tool.shelves import DISK, open_shelves
from blend.chunks.chunk import ChunkRecord
from blend.errors import StoreError
from blend.store.config import StoreConfig
from blend.store.file_format.chunk_file import codec_of


@dataclass(frozen=True, slots=True)
class Key:
    """A chunk of a model."""

    mark: str
    chunk_id: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored chunk.

    Attributes:
        mark: of its model, see `blend.store.layout`.
        num_bytes: of the file.
        used_s: when it was last used, in seconds since 1970.
        record: of its content, or None if unreadable.
        codec: name of its codec, or None if unreadable.
        collections: names of the collections that need it.
    """

    chunk_id: str
    mark: str
    num_bytes: int
    used_s: float
    pinned: bool
    record: ChunkRecord | None
    codec: str | None
    collections: tuple[str, ...]

    @property
    def bytes_per_token(self) -> float | None:
        """Of the whole file; None where its tokens cannot be counted."""
        return None if self.record is None else self.num_bytes / self.record.num_tokens


class Catalogue:
    """The chunks of a store's models in one tier, and the collections of its folder.

    Raises:
        StoreError: no store, or the remote cannot be reached.
        ConfigError: no remote is configured.
    """

    def __init__(self, config: StoreConfig, tier: str = DISK) -> None:
        self.path = config.path
        self.stores = open_shelves(config, tier)

    @cached_property
    def needs(self) -> Needs:
        """Which collections need which chunks."""
        return Needs(self.path, self.record)

    def chunks(self, collection: str | None = None) -> Iterator[Key]:
        """All stored chunks, or those that a collection needs, in a fixed order.

        Raises:
            UnknownCollection: no collection of that name.
        """
        if collection is not None:
            self.needs.check(collection)
        for mark, store in self.stores.items():
            for key in (Key(mark, chunk_id) for chunk_id in sorted(store.ids())):
                if collection is None or collection in self.collections(key):
                    yield key

    def find(self, text: str, *, pins: bool = False) -> Key:
        """The chunk whose id has a prefix.

        Args:
            pins: search the pins too, whose chunks may be missing.

        Raises:
            StoreError: no chunk, or more than one.
        """
        keys = [*self.chunks(), *self._pins()] if pins else [*self.chunks()]
        found = {key for key in keys if key.chunk_id.startswith(text)}
        if not found:
            raise StoreError(f"no chunk {text!r} in {self.path}: kvblend store ls lists them")
        if len(found) == 1:
            return found.pop()
        examples = ", ".join(sorted(key.chunk_id for key in found)[:3])
        raise StoreError(f"{text!r} begins {len(found)} ids, expected one: give more of it ({examples} ...)")

    def find_all(self, texts: Iterable[str], *, pins: bool = False) -> list[Key]:
        """Find several chunks, each once.

        Raises:
            StoreError: a prefix matches no chunk, or several.
        """
        return list(dict.fromkeys(self.find(text, pins=pins) for text in texts))

    def _pins(self) -> Iterator[Key]:
        return (Key(mark, pin) for mark, store in self.stores.items() for pin in store.pinned_ids())

    def record(self, mark: str, chunk_id: str) -> ChunkRecord | None:
        """A chunk's record, or None if it is absent or unreadable."""
        return self.stores[mark].peek(chunk_id) if mark in self.stores else None

    def codec(self, key: Key) -> str | None:
        """Name of a chunk's codec, or None if it is absent or unreadable."""
        parts = self.stores[key.mark].parts(key.chunk_id)
        return None if parts is None else codec_of(parts["kv"]).name

    def collections(self, key: Key) -> tuple[str, ...]:
        """Names of the collections that need a chunk."""
        return self.needs.of(key.mark, key.chunk_id, self.record(key.mark, key.chunk_id))

    def stored(self, keys: Iterable[Key]) -> Iterator[Stored]:
        """Details of chunks; chunks that were removed meanwhile are skipped."""
        for key in keys:
            store = self.stores[key.mark]
            entry, record = store.entry(key.chunk_id), self.record(key.mark, key.chunk_id)
            if entry is not None:
                yield Stored(
                    chunk_id=key.chunk_id,
                    mark=key.mark,
                    num_bytes=entry.num_bytes,
                    used_s=entry.used_ns / 1e9,
                    pinned=store.is_pinned(key.chunk_id),
                    record=record,
                    codec=self.codec(key),
                    collections=self.needs.of(key.mark, key.chunk_id, record),
                )

    def problem(self, key: Key) -> str | None:
        """Damage of a chunk, found by reading every byte; None for an intact or absent chunk."""
        return self.stores[key.mark].problem(key.chunk_id)
