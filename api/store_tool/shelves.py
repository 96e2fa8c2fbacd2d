"""The chunks of one model in one tier, as the verbs of `kvblend store` see them. Looking drops nothing."""

from collections.abc import Iterator
from functools import cached_property

from blend.chunks.chunk import ChunkRecord
from blend.errors import ConfigError, StoreError
from blend.store.config import StoreConfig
from blend.store.file_format.byte_source import FileBytes
from blend.store.file_format.chunk_file import map_chunk, read_parts, read_record
from blend.store.file_format.chunk_header import BadFileError, Part
from blend.store.layout import chunks_folder, list_marks
from blend.store.remote.connection import list_remote_marks
from blend.store.remote.remote import RemoteStore
from blend.store.tiers.disk import DiskStore
from blend.store.tiers.ledger import Entry, read_entry

DISK, REMOTE = "disk", "remote"
PATIENCE_S = 10.0
"""Deadline of a listing: no request waits for it."""


class DiskShelf(DiskStore):
    """A folder of chunk files."""

    def entry(self, chunk_id: str) -> Entry | None:
        """Size and last use; None when the chunk has gone."""
        return read_entry(self.root, chunk_id)

    def peek(self, chunk_id: str) -> ChunkRecord | None:
        """What a chunk is, or None where it is absent or unreadable."""
        try:
            return read_record(self.path(chunk_id), chunk_id)
        except (BadFileError, OSError, StoreError):
            return None

    def parts(self, chunk_id: str) -> dict[str, Part] | None:
        """The tensors of a chunk's file, or None where it is absent or unreadable."""
        try:
            with open(self.path(chunk_id), "rb", buffering=0) as file:
                return read_parts(FileBytes(file.fileno()), chunk_id)
        except (BadFileError, OSError):
            return None

    def place(self, chunk_id: str) -> str:
        """Where a chunk is, for people."""
        return str(self.path(chunk_id))

    def problem(self, chunk_id: str) -> str | None:
        """What is wrong with a chunk, every byte of which is read; None when it is whole or gone."""
        try:
            map_chunk(self.path(chunk_id), chunk_id).check()
        except FileNotFoundError:
            return None
        except (BadFileError, StoreError) as error:
            return str(error)
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        return None


class RemoteShelf(RemoteStore):
    """A model's chunks on a remote. Its methods raise `StoreError` when that cannot be reached."""

    def entry(self, chunk_id: str) -> Entry | None:
        """Size and last use; None when the chunk had gone when it was first looked."""
        return self._listed.get(chunk_id)

    @cached_property
    def _listed(self) -> dict[str, Entry]:
        return {entry.chunk_id: entry for entry in self.connection.write(lambda client: client.entries())}

    def pinned_ids(self) -> Iterator[str]:
        """Ids of all pins, those of chunks that are not stored now included."""
        return iter(self.connection.write(lambda client: client.pins()))

    def peek(self, chunk_id: str) -> ChunkRecord | None:
        """What a chunk is, or None where it is absent or unreadable."""
        try:
            file = self.peek_file(chunk_id)
        except BadFileError:
            return None
        return None if file is None else file.record

    def parts(self, chunk_id: str) -> dict[str, Part] | None:
        """The tensors of a chunk's file, or None where it is absent or unreadable."""
        try:
            file = self.peek_file(chunk_id)
        except BadFileError:
            return None
        return None if file is None else file.parts

    def place(self, chunk_id: str) -> str:
        """Where a chunk is, for people."""
        return self.connection.name

    def problem(self, chunk_id: str) -> str | None:
        """What is wrong with a chunk, every byte of which is read; None when it is whole or gone."""
        try:
            file = self.peek_file(chunk_id)
            if file is not None:
                file.check()
        except BadFileError as error:
            return str(error)
        return None


Shelf = DiskShelf | RemoteShelf


def open_shelves(config: StoreConfig, tier: str) -> dict[str, Shelf]:
    """The models of a tier, by their marks.

    Raises:
        StoreError: there is no store, or the remote cannot be reached.
        ConfigError: no remote is configured.
    """
    return _open_remote(config) if tier == REMOTE else _open_disk(config)


def _open_disk(config: StoreConfig) -> dict[str, Shelf]:
    if not config.path.is_dir():
        raise StoreError(f"no store at {config.path}: run kvblend precompute, or name another with --store")
    return {
        mark: DiskShelf(chunks_folder(config.path, mark), config.disk_bytes)
        for mark in list_marks(config.path)
    }


def _open_remote(config: StoreConfig) -> dict[str, Shelf]:
    url = config.remote
    if url is None:
        raise ConfigError("no remote is configured: set KVBLEND_STORE_REMOTE, or `remote` in kvblend.yaml")
    marks = list_remote_marks(url, PATIENCE_S)
    return {mark: RemoteShelf(url, mark, config.remote_bytes) for mark in marks}
