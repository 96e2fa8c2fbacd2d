"""Folders of the documents of managed collections, and which paths and metadata they take.

::

    <store>/documents/
        <collection>/            documents of a managed collection; the folder makes it a managed one
            <path>               a document
            <path>.metadata.json its metadata for filters, if it has any
        .jobs/<collection>.json  unfinished jobs, see `api.server.ingest.jobs`
        .removed/<collection>/   a collection that is being removed
"""

import json
import shutil
import unicodedata
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from api.server.errors import BadUpload
from precompute.metadata import RESERVED, SUFFIX
from retriever.durable import write_durably
from retriever.filters import Metadata, is_scalar
from retriever.layout import NAME, check_name

MAX_NAME_BYTES = 200
"""File systems allow 255 bytes; the names of metadata and temporary files are longer than the document's."""

MAX_PATH_BYTES = 1000


@dataclass(frozen=True, slots=True)
class Upload:
    """A document as it arrives.

    Attributes:
        path: relative, with forward slashes; a document of the same path is replaced.
        data: a file's bytes: text, Markdown, HTML, PDF or source.
        metadata: what filters may ask for.
    """

    path: str
    data: bytes
    metadata: Metadata = field(default_factory=dict)


def documents_folder(store: Path) -> Path:
    """Folder of all managed collections' documents."""
    return store / "documents"


def managed_names(store: Path) -> list[str]:
    """Names of the managed collections, sorted."""
    folders = documents_folder(store).glob("*/")
    return sorted(folder.name for folder in folders if NAME.fullmatch(folder.name))


def check_metadata(path: str, metadata: Metadata, max_bytes: int) -> None:
    """Check a document's metadata.

    Raises:
        BadUpload: a reserved key, a value of a wrong type, or too many bytes.
    """
    if reserved := [key for key in RESERVED if key in metadata]:
        raise BadUpload(f"metadata of {path!r}: got the reserved key {reserved[0]!r}")
    for key, value in metadata.items():
        if not (all(map(is_scalar, value)) if isinstance(value, list | tuple) else is_scalar(value)):
            raise BadUpload(
                f"metadata of {path!r}: {key[:80]!r}: expected a string, a number, a boolean, or a list "
                "of those"
            )
    num_bytes = len(json.dumps(metadata).encode())
    if num_bytes > max_bytes:
        raise BadUpload(f"metadata of {path!r}: got {num_bytes} bytes, expected at most {max_bytes}")


class DocumentFolder:
    """The documents of one managed collection.

    Raises:
        CollectionError: the name is invalid.
    """

    def __init__(self, store: Path, collection: str) -> None:
        check_name(collection)
        self.path = documents_folder(store) / collection
        self._removed = documents_folder(store) / ".removed" / collection

    def exists(self) -> bool:
        """Whether the collection is managed."""
        return self.path.is_dir()

    def make(self) -> None:
        """Create the folder, which makes the collection a managed one."""
        self.path.mkdir(parents=True)

    def has(self, path: str) -> bool:
        """Whether the collection has a document of that path."""
        return (self.path / check_path(path)).is_file()

    def write(self, upload: Upload) -> None:
        """Add or replace a document, durably and atomically.

        Raises:
            BadUpload: a folder has that path, or a part of the path is a document.
        """
        place = self.path / check_path(upload.path)
        metadata_file = place.with_name(place.name + SUFFIX)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            if upload.metadata:
                write_durably(metadata_file, json.dumps(dict(upload.metadata)).encode())
            else:
                metadata_file.unlink(missing_ok=True)
            write_durably(place, upload.data)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise BadUpload(
                f"document path {upload.path!r}: a part of the path is a document, or the path is a folder"
            ) from error

    def delete(self, path: str) -> None:
        """Delete a document, its metadata, and folders that become empty; a no-op for an absent document."""
        place = self.path / check_path(path)
        place.unlink(missing_ok=True)
        place.with_name(place.name + SUFFIX).unlink(missing_ok=True)
        with suppress(OSError):  # a folder that is not empty stays
            for folder in place.relative_to(self.path).parents[:-1]:
                (self.path / folder).rmdir()

    def set_aside(self) -> None:
        """Begin the removal: from now on the collection is not a managed one."""
        self._removed.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._removed, ignore_errors=True)
        self.path.rename(self._removed)

    def clear(self) -> None:
        """Delete the documents that `set_aside` moved."""
        shutil.rmtree(self._removed, ignore_errors=True)


def names_being_removed(store: Path) -> list[str]:
    """Collections whose removal has not finished."""
    return sorted(folder.name for folder in (documents_folder(store) / ".removed").glob("*/"))


def check_path(path: str) -> str:
    """The path itself, if it is a valid document path.

    >>> check_path("manuals/ffmpeg 7.md")
    'manuals/ffmpeg 7.md'

    Raises:
        BadUpload: the path leaves the folder, is hidden, is too long, or is invalid on some system.
    """
    if problem := _problem(path):
        raise BadUpload(
            f"document path {path[:80]!r} {problem}: expected names with '/' between them, such as "
            f"'manuals/start.md', none of them hidden or over {MAX_NAME_BYTES} bytes, {MAX_PATH_BYTES} bytes "
            "in all"
        )
    return path


def _problem(path: str) -> str | None:
    try:
        num_bytes = len(path.encode())
    except UnicodeEncodeError:
        return "is not UTF-8"
    if not path or num_bytes > MAX_PATH_BYTES:
        return f"has {num_bytes} bytes"
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in path) or "\\" in path:
        return "has a control character or a backslash"
    if path.endswith(SUFFIX):
        return f"ends with {SUFFIX}, which is reserved for metadata"
    for name in path.split("/"):
        if not name.strip():
            return "is absolute, ends with '/', or has an empty name"
        if name.startswith("."):
            return "has a hidden name, or leaves its folder"
        if len(name.encode()) > MAX_NAME_BYTES:
            return f"has a name of {len(name.encode())} bytes"
    return None
