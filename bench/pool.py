"""Chunk texts of exactly so many tokens, cut from documents."""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from importlib.resources import as_file, files
from itertools import islice
from pathlib import Path

from blend.errors import RequestError
from precompute.chunked import check_folder
from precompute.readers import Document, SourceFile, list_files, load_file, parse

MAX_TOKEN_CHARS = 16
"""Most characters that a token is assumed to have; bounds the search for the end of a chunk."""

Count = Callable[[str], int]
"""Number of tokens of a text as it stands in the middle of a prompt."""


def cut_pool(folder: Path | None, num: int, num_tokens: int, count: Count) -> list[str]:
    """Different chunks cut from documents, in the order of the files.

    Args:
        folder: documents of any kind that the precompute job reads; the demo's own when None.
        num: how many.
        num_tokens: of each.

    Raises:
        PrecomputeError: there is no such folder.
        RequestError: the documents are too short.
    """
    texts = _demo_texts() if folder is None else document_texts(folder)
    pieces = (piece for text in texts for piece in exact_chunks(text, num_tokens, count))
    found = list(islice(_different(pieces), num))
    if len(found) < num:
        raise RequestError(
            f"got documents for {len(found)} chunks of {num_tokens} tokens, expected {num}: "
            "take fewer or shorter ones (--pool, --chunk-tokens), or give more text with --data"
        )
    return found


def document_texts(folder: Path) -> list[str]:
    """Texts of the readable documents in a folder.

    Raises:
        PrecomputeError: it is missing, or empty.
    """
    check_folder(folder)
    loaded = (load_file(folder, path) for path in list_files(folder) if isinstance(path, str))
    parsed = [parse(file) for file in loaded if isinstance(file, SourceFile)]
    return [document.text for document in parsed if isinstance(document, Document)]


def exact_chunks(text: str, num_tokens: int, count: Count) -> Iterator[str]:
    """Pieces of a text from left to right, each of exactly so many tokens, without white space at its ends.

    >>> list(exact_chunks("one two three four five", 2, lambda text: len(text.split())))
    ['one two', 'three four']
    """
    place = _word_at(text, 0)
    while place < len(text):
        ends = range(place, min(len(text), place + MAX_TOKEN_CHARS * num_tokens) + 1)
        end = ends[bisect_right(ends, num_tokens, key=lambda end: count(text[place:end].strip())) - 1]
        piece = text[place:end].strip()
        if count(piece) == num_tokens:
            yield piece
            place = _word_at(text, end)
        elif end == len(text):
            return
        else:  # one more character adds two tokens
            place = _word_at(text, place + len(text[place:].split(maxsplit=1)[0]))


def _word_at(text: str, place: int) -> int:
    """Position of the next character that is not white space."""
    while place < len(text) and text[place].isspace():
        place += 1
    return place


def _different(pieces: Iterator[str]) -> Iterator[str]:
    seen: set[str] = set()
    for piece in pieces:
        if piece not in seen:
            seen.add(piece)
            yield piece


def _demo_texts() -> list[str]:
    with as_file(files("demo") / "docs") as folder:
        return document_texts(folder)
