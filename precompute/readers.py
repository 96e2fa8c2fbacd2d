"""Files become documents; an unreadable file is returned as `Unreadable`, never raised."""

import codecs
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from precompute import suffixes
from precompute.pdf_text import pdf_text

SNIFFED_BYTES = 8192
# UTF-32 first: its little-endian mark begins with UTF-16's.
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
HEADING = re.compile(r"^#{1,6}[ \t]+(.+?)[ \t#]*$|^(\S.*)\n=+[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file's bytes.

    Attributes:
        path: relative to the folder, with forward slashes.
        sha256: hexadecimal digest of `data`.
    """

    path: str
    data: bytes
    sha256: str


@dataclass(frozen=True, slots=True)
class Document:
    """A file's text.

    Attributes:
        path: relative to the folder, with forward slashes.
        title: name of the document in answers.
        sha256: hexadecimal digest of the file's bytes.
    """

    path: str
    title: str
    text: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file or subfolder that could not be read, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Binary:
    """A binary file without a known suffix, which is skipped."""

    path: str


def list_files(folder: Path) -> Iterator[str | Unreadable]:
    """Relative paths of all files under a folder that are not hidden, sorted.

    Symbolic links to folders are not followed.
    """
    failures: list[OSError] = []
    found: list[str] = []
    for top, folders, files in os.walk(folder, onerror=failures.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        relative = Path(top).relative_to(folder)
        found.extend((relative / name).as_posix() for name in files if not name.startswith("."))
    yield from sorted(found)
    for failure in failures:
        place = Path(failure.filename).relative_to(folder).as_posix()
        yield Unreadable(place, failure.strerror or str(failure))


def load_file(folder: Path, path: str) -> SourceFile | Unreadable | Binary:
    """Read a file; of a binary file with an unknown suffix only the beginning is read."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return Unreadable(os.fsencode(path).decode(errors="backslashreplace"), "its name is not UTF-8")
    try:
        # Opening a named pipe would block until a writer opens it.
        if not (folder / path).is_file() and (folder / path).exists():
            return Binary(path)
        with open(folder / path, "rb") as file:
            data = file.read(SNIFFED_BYTES)
            if not _is_known(path) and _is_binary(data):
                return Binary(path)
            data += file.read()
    except OSError as error:
        return Unreadable(path, error.strerror or str(error))
    return SourceFile(path, data, hashlib.sha256(data).hexdigest())


def parse(file: SourceFile) -> Document | Unreadable | Binary:
    """A file's text and title, by the reader that its suffix names."""
    suffix = PurePosixPath(file.path).suffix.lower()
    try:
        if suffix in suffixes.HTML:
            title, text = _html_text(file.data)
        elif suffix in suffixes.PDF:
            title, text = pdf_text(file.data)
        else:
            text = decode(file.data)
            title = _heading(text) if suffixes.LANGUAGES.get(suffix) == "markdown" else None
    except UnicodeDecodeError as error:
        return Unreadable(file.path, f"not text: {error}") if _is_known(file.path) else Binary(file.path)
    except ValueError as error:
        return Unreadable(file.path, str(error))
    text = tidy(text)
    if not text.strip():
        return Unreadable(file.path, "empty: it holds no text")
    return Document(file.path, title or PurePosixPath(file.path).name, text, file.sha256)


def _html_text(data: bytes) -> tuple[str | None, str]:
    try:
        from precompute.html_text import html_text
    except ImportError as error:
        raise ValueError("HTML needs the beautifulsoup4 package: pip install 'kvblend[html]'") from error
    return html_text(data)


def decode(data: bytes) -> str:
    """Decode bytes as UTF-8, or by their byte order mark.

    >>> decode("\\ufeffnaïve".encode("utf-16"))
    'naïve'

    Raises:
        UnicodeDecodeError: the bytes are not text in that encoding.
    """
    encoding = next((name for mark, name in BYTE_ORDER_MARKS if data.startswith(mark)), "utf-8")
    text = data.decode(encoding).removeprefix("\ufeff")
    if "\0" in text:
        raise UnicodeDecodeError(encoding, data, data.find(b"\0"), data.find(b"\0") + 1, "a NUL byte")
    return text


def _is_known(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in suffixes.KNOWN


def _is_binary(head: bytes) -> bool:
    return b"\0" in head and not any(head.startswith(mark) for mark, _ in BYTE_ORDER_MARKS)


def _heading(markdown: str) -> str | None:
    found = HEADING.search(markdown.replace("\r\n", "\n"))
    return (found[1] or found[2]).strip() if found else None


def tidy(text: str) -> str:
    """Normalise line ends, and replace characters that UTF-8 cannot encode (PDFs yield lone surrogates).

    >>> tidy("a\\r\\nb")
    'a\\nb'
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    return text.encode("utf-8", "replace").decode()
