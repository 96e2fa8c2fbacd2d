"""Metadata of a document, for filters: one flat JSON object in `<document>.metadata.json` beside it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from precompute.readers import Unreadable
from retriever.filters import Metadata, Value, is_scalar

SUFFIX = ".metadata.json"
RESERVED = ("path", "title")
"""Keys that every document has in filters."""


def metadata_files(paths: Iterable[str]) -> dict[str, str]:
    """Paths of metadata files by the paths of their documents.

    >>> metadata_files(["a.md", "a.md.metadata.json", "b.metadata.json"])
    {'a.md': 'a.md.metadata.json'}
    """
    found = set(paths)
    described = {path.removesuffix(SUFFIX): path for path in sorted(found) if path.endswith(SUFFIX)}
    return {document: path for document, path in described.items() if document in found}


def read_metadata(folder: Path, path: str) -> Metadata | Unreadable:
    """The object of a metadata file; lists become tuples."""
    try:
        given = json.loads((folder / path).read_bytes())
    except OSError as error:
        return Unreadable(path, error.strerror or str(error))
    except ValueError as error:
        return Unreadable(path, f"not JSON: {error}")
    if not isinstance(given, dict):
        return Unreadable(path, f"got {type(given).__name__}, expected one JSON object")
    if taken := [key for key in RESERVED if key in given]:
        return Unreadable(path, f"got the key {taken[0]!r}, which is reserved: rename it")
    metadata = {key: _value(value) for key, value in given.items()}
    if wrong := [key for key, value in metadata.items() if value is None]:
        return Unreadable(
            path,
            f"{wrong[0]!r}: expected a string, a number, a boolean, or a list of those, got "
            f"{json.dumps(given[wrong[0]])[:60]}",
        )
    return {key: value for key, value in metadata.items() if value is not None}


def _value(value: Any) -> Value | None:
    if isinstance(value, list):
        return tuple(value) if all(map(is_scalar, value)) else None
    return value if is_scalar(value) else None
