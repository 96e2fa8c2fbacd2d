"""What lies in a store, over all models. Looking changes nothing: what is damaged is named, and stays."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from api.store.needs import Needs
from blend.chunk import ChunkRecord
from blend.errors import StoreError
from blend.store.byte_source import FileBytes
from blend.store.chunk_file import codec_of, map_chunk, read_parts, read_record
from blend.store.chunk_header import BadFileError, Part
from blend.store.config import StoreConfig
from blend.store.disk import DiskStore
from blend.store.layout import chunks_folder, list_marks
from blend.store.ledger import read_entry


@dataclass(frozen=True, slots=True)
class Key:
    """A chunk of a model."""

    mark: str
    chunk_id: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A chunk's file.

    Attributes:
        mark: of its model, see `blend.store.layout`.
        num_bytes: of the file.
        used_s: when it was last used, in seconds since 1970.
        record: what it holds, or None where that cannot be read.
        codec: name of what packed it, or None where that cannot be read.
        collections: names of those that need it.
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
    """The chunk files of a store's models.

    Raises:
        StoreError: there is no store.
    """

    def __init__(self, config: StoreConfig) -> None:
        if not config.path.is_dir():
            raise StoreError(
                f"no store at {config.path}: run kvblend precompute, or name another with --store"
            )
        self.path = config.path
        self.stores = {
            mark: DiskStore(chunks_folder(config.path, mark), config.disk_bytes)
            for mark in list_marks(config.path)
        }

    @cached_property
    def needs(self) -> Needs:
        """Which collections need what."""
        return Needs(self.path, self.record)

    def chunks(self, collection: str | None = None) -> Iterator[Key]:
        """All stored chunks, those that a collection needs, in one fixed order.

        Raises:
            UnknownCollection: there is none of that name.
        """
        if collection is not None:
            self.needs.check(collection)
        for mark, store in self.stores.items():
            for key in (Key(mark, chunk_id) for chunk_id in sorted(store.ids())):
                if collection is None or collection in self.collections(key):
                    yield key

    def find(self, text: str, *, pins: bool = False) -> Key:
        """The chunk whose id begins so.

        Args:
            pins: look among the pins as well, whose chunks need not be stored.

        Raises:
            StoreError: there is none, or more than one.
        """
        keys = [*self.chunks(), *self._pins()] if pins else [*self.chunks()]
        found = {key for key in keys if key.chunk_id.startswith(text)}
        if not found:
            raise StoreError(f"no chunk {text!r} in {self.path}: kvblend store ls shows what there is")
        if len(found) == 1:
            return found.pop()
        examples = ", ".join(sorted(key.chunk_id for key in found)[:3])
        raise StoreError(f"{text!r} begins {len(found)} ids, expected one: give more of it ({examples} ...)")

    def find_all(self, texts: Iterable[str], *, pins: bool = False) -> list[Key]:
        """The same for several, each once.

        Raises:
            StoreError: one of them is no chunk, or several.
        """
        return list(dict.fromkeys(self.find(text, pins=pins) for text in texts))

    def _pins(self) -> Iterator[Key]:
        return (Key(mark, pin) for mark, store in self.stores.items() for pin in store.pinned_ids())

    def record(self, mark: str, chunk_id: str) -> ChunkRecord | None:
        """What a chunk is, or None where it is absent or unreadable."""
        try:
            return read_record(self.stores[mark].path(chunk_id), chunk_id)
        except (KeyError, BadFileError, OSError, StoreError):
            return None

    def codec(self, key: Key) -> str | None:
        """Name of what packed a chunk, or None where it is absent or unreadable."""
        parts = self.parts(key)
        return None if parts is None else codec_of(parts["kv"]).name

    def parts(self, key: Key) -> dict[str, Part] | None:
        """What a chunk's header says, or None where it is absent or unreadable."""
        try:
            with open(self.stores[key.mark].path(key.chunk_id), "rb", buffering=0) as file:
                return read_parts(FileBytes(file.fileno()), key.chunk_id)
        except (BadFileError, OSError):
            return None

    def collections(self, key: Key) -> tuple[str, ...]:
        """Names of the collections that need a chunk."""
        return self.needs.of(key.mark, key.chunk_id, self.record(key.mark, key.chunk_id))

    def stored(self, keys: Iterable[Key]) -> Iterator[Stored]:
        """The files of chunks; those that went meanwhile are left out."""
        for key in keys:
            store = self.stores[key.mark]
            entry, record = read_entry(store.root, key.chunk_id), self.record(key.mark, key.chunk_id)
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
        """What is wrong with a chunk's file, every byte of which is read; None when it is whole or gone."""
        try:
            map_chunk(self.stores[key.mark].path(key.chunk_id), key.chunk_id).chunk()
        except FileNotFoundError:
            return None
        except (BadFileError, StoreError) as error:
            return str(error)
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        return None
