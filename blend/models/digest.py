"""Digests of large files, cached, so that a second start reads no weights."""

import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from blend.settings.defaults import default_cache


@dataclass(frozen=True, slots=True)
class _FileState:
    """The state of a hashed file; `ctime_ns` also reveals a rewrite that restored the mtime."""

    path: str
    size_bytes: int
    mtime_ns: int
    ctime_ns: int


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, from the cache folder if the file has not changed.

    Args:
        path: a file.

    Returns:
        64 hexadecimal digits.

    Raises:
        OSError: the file cannot be read. A read-only cache folder is not an error.
    """
    state = _state(path)
    note = default_cache() / "digests" / f"{hashlib.sha256(state.path.encode()).hexdigest()[:32]}.json"
    known = _recall(note, state)
    if known is not None:
        return known
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if _state(path) == state:  # otherwise the file was written while it was read
        _remember(note, state, digest)
    return digest


def _state(path: Path) -> _FileState:
    real = path.resolve()
    stat = real.stat()
    return _FileState(str(real), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _recall(note: Path, state: _FileState) -> str | None:
    try:
        content = json.loads(note.read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.get("state") != asdict(state):
        return None
    digest = content.get("sha256")
    return digest if isinstance(digest, str) else None


def _remember(note: Path, state: _FileState, digest: str) -> None:
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=note.parent, prefix=".", delete=False) as file:
            json.dump({"state": asdict(state), "sha256": digest}, file)
        os.replace(file.name, note)
    except OSError:
        return  # a read-only or full cache folder only makes the next start slower
