"""Writing a chunk's file so that a reader, or a crash, finds all of it or nothing."""

import os
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

LEFTOVER_AGE_S = 3600.0
"""Age from which a temporary file belongs to a writer that died."""


def write_durably(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Write a file beside its place, sync it, rename it, and sync the folder.

    Raises:
        OSError: it cannot be written; whatever stood at `path` is untouched.
    """
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb", buffering=0) as file:
            for piece in pieces:
                _write_all(file.fileno(), memoryview(piece).cast("B"))
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def make_folder(path: Path) -> None:
    """Make a folder and those above it; each that was missing outlives a crash.

    Raises:
        OSError: one cannot be made.
    """
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make what was renamed or made in a folder durable.

    Raises:
        OSError: it cannot be opened or synced.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def drop_page_cache(path: Path) -> None:
    """Make the next read of a synced file come from the disk, so that a cold read can be measured."""
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def remove_leftovers(folder: Path) -> int:
    """Remove the temporary files of dead writers; returns how many there were."""
    oldest, removed = time.time() - LEFTOVER_AGE_S, 0
    for path in folder.glob(".*.tmp"):
        with suppress(OSError):
            if path.stat().st_mtime < oldest:
                path.unlink()
                removed += 1
    return removed


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
