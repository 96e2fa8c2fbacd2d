"""The disk tier: one file a chunk, found whole or not at all, and checked on every read.

A file is in the safetensors format: token ids, prefix ids, scores, and keys and values as one tensor
[L, 2, T, H, D], so that one layer is one contiguous run of bytes with a checksum of its own.
"""

import errno
import logging
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from blend.chunk import ChunkKV, ChunkRecord
from blend.errors import CorruptChunk, StoreError, StoreFull
from blend.store.chunk_file import BadFileError, decode, decode_record, encode

logger = logging.getLogger(__name__)

SUFFIX = ".safetensors"
MAX_ID_CHARS = 128
LEFTOVER_AGE_S = 3600.0
"""Age from which a temporary file belongs to a writer that died."""
CLOCK_GRAIN_NS = 20_000_000
"""File times come from the kernel's tick, 10 ms at the coarsest: two changes may bear the same one."""


class DiskStore:
    """Chunk KV as files in one folder; implements `blend.store.base.ChunkStore`.

    Attributes:
        root: the folder. It belongs to one model.
        corrupt_found: entries that failed their checks since this store was opened.
    """

    def __init__(self, root: Path) -> None:
        """Open the folder, make it when it is missing, and clear what dead writers left in it.

        Raises:
            StoreError: the folder cannot be made.
        """
        self.root = root
        self.corrupt_found = 0
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _store_error(root, error) from error
        self._remove_leftovers()

    def put(self, chunk: ChunkKV) -> None:
        """Store a chunk; when this returns it is found, whole, also after a crash.

        Raises:
            StoreFull: no space left. Nothing that was stored is lost.
            StoreError: the folder cannot be written to, or the chunk's id is none.
        """
        if not _is_id(chunk.record.chunk_id):
            raise StoreError(f"{chunk.record.chunk_id!r} is no chunk id: expected letters and digits only")
        path = self._path(chunk.record.chunk_id)
        temporary = self.root / f".{path.stem}.{secrets.token_hex(4)}.tmp"
        try:
            _write_synced(temporary, encode(chunk))
            os.replace(temporary, path)
            _sync_folder(self.root)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise _store_error(path, error) from error

    def get(self, record: ChunkRecord) -> ChunkKV | None:
        """The stored chunk, or None when it is absent; its tensors are views of the mapped file.

        Raises:
            CorruptChunk: it failed its checks, or its token ids are not `record`'s. The entry has
                been dropped, or, when the file could not even be opened, left as it is.
        """
        if not _is_id(record.chunk_id):
            return None
        path = self._path(record.chunk_id)
        try:
            return decode(path, record)
        except FileNotFoundError:
            return None
        except BadFileError as error:
            self._drop(path, str(error))
            raise CorruptChunk(
                f"stored chunk {record.chunk_id} is damaged: {error}; compute it again"
            ) from error
        except OSError as error:
            # A passing fault (too many open files, say) must not cost a chunk that is sound.
            logger.warning("stored chunk %s cannot be read: %s", path, error)
            raise CorruptChunk(f"stored chunk {record.chunk_id} cannot be read: {error}") from error

    def record(self, chunk_id: str) -> ChunkRecord | None:
        """What is stored under an id, without reading its tensors; None when absent or unreadable."""
        if not _is_id(chunk_id):
            return None
        path = self._path(chunk_id)
        try:
            return decode_record(path, chunk_id)
        except BadFileError as error:
            self._drop(path, str(error))
        except OSError:
            pass
        return None

    def __contains__(self, chunk_id: object) -> bool:
        return isinstance(chunk_id, str) and _is_id(chunk_id) and self._path(chunk_id).is_file()

    def ids(self) -> Iterator[str]:
        """Ids of all stored chunks, in no order."""
        with os.scandir(self.root) as entries:
            for entry in entries:
                if entry.name.endswith(SUFFIX) and not entry.name.startswith("."):
                    yield entry.name.removesuffix(SUFFIX)

    def generation(self) -> int:
        """A number that differs when chunks may have been added or removed since it was last asked."""
        modified, now = self.root.stat().st_mtime_ns, time.time_ns()
        # Within a tick of the last change another one may still come that bears the same time.
        return now if abs(now - modified) < CLOCK_GRAIN_NS else modified

    def delete(self, chunk_id: str) -> None:
        """Remove a chunk; a no-op when it is absent."""
        if _is_id(chunk_id):
            self._path(chunk_id).unlink(missing_ok=True)

    def _path(self, chunk_id: str) -> Path:
        return self.root / f"{chunk_id}{SUFFIX}"

    def _drop(self, path: Path, reason: str) -> None:
        self.corrupt_found += 1
        logger.warning("dropped stored chunk %s: %s", path, reason)
        with suppress(OSError):
            path.unlink(missing_ok=True)

    def _remove_leftovers(self) -> None:
        oldest = time.time() - LEFTOVER_AGE_S
        for path in self.root.glob(".*.tmp"):
            with suppress(OSError):
                if path.stat().st_mtime < oldest:
                    path.unlink()


def _is_id(text: str) -> bool:
    """Whether a text can be a chunk id; callers may ask for any text, and none may leave the folder."""
    return text.isascii() and text.isalnum() and len(text) <= MAX_ID_CHARS


def _write_synced(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    """Make a rename in `path` durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _store_error(path: Path, error: OSError) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(
            f"no space left for {path}: {error.strerror}; free some and run again, what is stored stays"
        )
    return StoreError(f"cannot write {path}: {error.strerror}; check the folder and its permissions")
