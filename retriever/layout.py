"""Folder and file names of a collection.

::

    <store>/collections/<name>/
        manifest.json            written last; names the data files that belong to it
        chunks-<digest>.jsonl    one chunk a line; line i is row i of the index
        index-<digest>.faiss     one vector a chunk
        words-<digest>.npz       the chunks' words, scored

A data file never changes under its name, so a reader sees the old state or the new one, never a mixture.
"""

import re
from pathlib import Path

import xxhash

from retriever.errors import CollectionError, OtherFormat, UnknownCollection
from retriever.manifest import Manifest

MANIFEST = "manifest.json"
CHUNKS = "chunks-{}.jsonl"
INDEX = "index-{}.faiss"
WORDS = "words-{}.npz"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_name(name: str) -> None:
    """Check that a name is a valid folder name on every system.

    >>> check_name("ffmpeg-7.1")
    >>> check_name("../x")
    Traceback (most recent call last):
    retriever.errors.CollectionError: collection name '../x': expected letters, digits, '.', '_' and '-', \
at most 100, the first a letter or a digit

    Raises:
        CollectionError: the name is invalid.
    """
    if not NAME.fullmatch(name):
        raise CollectionError(
            f"collection name {name!r}: expected letters, digits, '.', '_' and '-', "
            "at most 100, the first a letter or a digit"
        )


def collection_folder(store: Path, name: str) -> Path:
    """Folder of a collection.

    Raises:
        CollectionError: the name is invalid, see `check_name`.
    """
    check_name(name)
    return store / "collections" / name


def data_name(pattern: str, data: bytes) -> str:
    """Name of a data file, with a digest of its content.

    >>> data_name(CHUNKS, b"")
    'chunks-99aa06d3014798d86001c324468d497f.jsonl'
    """
    return pattern.format(xxhash.xxh3_128_hexdigest(data))


def list_collections(store: Path) -> list[str]:
    """Names of all published collections, sorted."""
    return sorted(path.parent.name for path in (store / "collections").glob(f"*/{MANIFEST}"))


def read_manifest(store: Path, name: str) -> Manifest:
    """Read the manifest without texts and vectors.

    Raises:
        UnknownCollection: no collection of that name.
        CollectionError: the manifest is damaged, or has another format version.
    """
    path = collection_folder(store, name) / MANIFEST
    try:
        return Manifest.from_bytes(path.read_bytes())
    except FileNotFoundError as error:
        raise UnknownCollection(f"no collection {name!r} in {store}") from error
    except OtherFormat as error:
        raise OtherFormat(f"collection {name!r} in {store}: {error}") from error
    except CollectionError as error:
        raise CollectionError(f"{path} is damaged: {error}") from error
