"""Names of uploaded files, which are never used as paths."""

import re
import unicodedata
from pathlib import PurePosixPath

from api.server.errors import FieldError

MAX_BYTES = 255
SUFFIX = re.compile(r"\.[a-z0-9]{1,12}")


def check_filename(name: str) -> str:
    """Check a file name.

    >>> check_filename("Über uns.md")
    'Über uns.md'
    >>> check_filename("..")
    Traceback (most recent call last):
    api.server.errors.FieldError: file: got the name '..', expected a file name

    Raises:
        FieldError: the name is invalid.
    """
    if not name or name in (".", ".."):
        raise _refused(name, "a file name")
    if "/" in name or "\\" in name:
        raise _refused(name, "a file name without '/' and '\\'")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        raise _refused(name, "a file name without control characters")
    if len(name.encode()) > MAX_BYTES:
        raise _refused(name, f"at most {MAX_BYTES} bytes")
    return name


def document_path(file_id: str, filename: str) -> str:
    """Path of an uploaded file as a document: its id, with the suffix that selects the reader.

    >>> document_path("file-1", "Über uns.MD"), document_path("file-1", "notes"), document_path("f", "a.b c")
    ('file-1.md', 'file-1.txt', 'f.txt')
    """
    suffix = PurePosixPath(filename).suffix.lower()
    return file_id + (suffix if SUFFIX.fullmatch(suffix) else ".txt")


def file_id_of(path: str) -> str:
    """The id of a file by its `document_path`.

    >>> file_id_of("file-1.md")
    'file-1'
    """
    return PurePosixPath(path).stem


def _refused(name: str, expected: str) -> FieldError:
    shown = name.encode(errors="backslashreplace").decode()[:80]
    return FieldError(f"file: got the name {shown!r}, expected {expected}", "file")
