"""Where the documents of managed collections lie.

::

    <store>/documents/
        <collection>/            what the collection consists of; a folder here makes it a managed one
            <path>               a document
            <path>.metadata.json what filters know of it, where something was said
        .jobs/<collection>.json  jobs that have not ended, see `api.server.ingest.jobs`
        .removed/<collection>/   collections that are being removed
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
"""File systems take 255; the description's and a temporary file's names are longer than the document's."""

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
    """Names of the collections that have a folder here, sorted."""
    folders = documents_folder(store).glob("*/")
    return sorted(folder.name for folder in folders if NAME.fullmatch(folder.name))


def check_metadata(path: str, metadata: Metadata, max_bytes: int) -> None:
    """Refuse what a description may not hold.

    Raises:
        BadUpload: a key that is taken, a value of a wrong kind, or too much of it.
    """
    if taken := [key for key in RESERVED if key in metadata]:
        raise BadUpload(f"metadata of {path!r}: got the key {taken[0]!r}, which every document has already")
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
        CollectionError: the name is none.
    """

    def __init__(self, store: Path, collection: str) -> None:
        check_name(collection)
        self.path = documents_folder(store) / collection
        self._removed = documents_folder(store) / ".removed" / collection

    def exists(self) -> bool:
        """Whether the collection is managed."""
        return self.path.is_dir()

    def make(self) -> None:
        """Make it a managed one, without documents."""
        self.path.mkdir(parents=True)

    def has(self, path: str) -> bool:
        """Whether there is a document of that path."""
        return (self.path / check_path(path)).is_file()

    def write(self, upload: Upload) -> None:
        """Add or replace a document, durably: an old one is there, or the new one, never a part.

        Raises:
            BadUpload: the path is a folder's, or runs through a document.
        """
        place = self.path / check_path(upload.path)
        description = place.with_name(place.name + SUFFIX)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            if upload.metadata:
                write_durably(description, json.dumps(dict(upload.metadata)).encode())
            else:
                description.unlink(missing_ok=True)
            write_durably(place, upload.data)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise BadUpload(
                f"document path {upload.path!r}: a part of it is another document's, or a folder's"
            ) from error

    def delete(self, path: str) -> None:
        """Remove a document, its description, and folders that are empty now; a no-op where it is absent."""
        place = self.path / check_path(path)
        place.unlink(missing_ok=True)
        place.with_name(place.name + SUFFIX).unlink(missing_ok=True)
        with suppress(OSError):  # a folder that is not empty stays
            for folder in place.relative_to(self.path).parents[:-1]:
                (self.path / folder).rmdir()

    def set_aside(self) -> None:
        """Begin to remove it: from here on the collection is not a managed one."""
        self._removed.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._removed, ignore_errors=True)
        self.path.rename(self._removed)

    def clear(self) -> None:
        """End what `set_aside` began."""
        shutil.rmtree(self._removed, ignore_errors=True)


def names_being_removed(store: Path) -> list[str]:
    """Collections whose removal was begun and not ended."""
    return sorted(folder.name for folder in (documents_folder(store) / ".removed").glob("*/"))


def check_path(path: str) -> str:
    """The path itself, when it may be a document's.

    >>> check_path("manuals/ffmpeg 7.md")
    'manuals/ffmpeg 7.md'

    Raises:
        BadUpload: it leaves the folder, is hidden, too long, or no name everywhere.
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
        return f"ends with {SUFFIX}, which is a description's"
    for name in path.split("/"):
        if not name.strip():
            return "is absolute, ends with '/', or has an empty name"
        if name.startswith("."):
            return "has a hidden name, or leaves its folder"
        if len(name.encode()) > MAX_NAME_BYTES:
            return f"has a name of {len(name.encode())} bytes"
    return None
