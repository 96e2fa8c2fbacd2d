"""Which paths a document may have: names that are files' names everywhere, inside the collection's folder."""

import unicodedata

from api.server.errors import BadUpload
from precompute.metadata import SUFFIX

MAX_NAME_BYTES = 200
"""File systems take 255; the description's and a temporary file's names are longer than the document's."""

MAX_PATH_BYTES = 1000


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
