"""A collection in memory: one published state, opened whole."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from retriever.bm25 import Bm25Index
from retriever.errors import CollectionError, OtherFormat, UnknownCollection
from retriever.index import ExactIndex, Index
from retriever.index_choice import read_index
from retriever.layout import (
    CHUNKS,
    INDEX,
    MANIFEST,
    NAME,
    WORDS,
    collection_folder,
    data_name,
    list_collections,
)
from retriever.manifest import DocumentEntry, Manifest, Settings

OPEN_ATTEMPTS = 5
"""Attempts at opening: a writer that publishes twice meanwhile deletes the data files that are being read."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a chunk stands: the `index`-th chunk of the document `source`, whose title is `title`."""

    source: str
    title: str
    index: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk's text, and every place where it stands, in the order of the documents.

    Attributes:
        num_tokens: tokens of the served model, for the chunk in the middle of a prompt.
    """

    chunk_id: str
    text: str
    num_tokens: int
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Collection:
    """One published state of a collection, in memory; a later publication does not change it.

    Attributes:
        chunks: each chunk once; `chunks[i]` is row i of `index` and of `words`.
        rows: row of each chunk id.
        documents: by their paths.
        stamp: identity of the manifest file that was read.
    """

    folder: Path
    manifest: Manifest
    chunks: tuple[Chunk, ...]
    rows: Mapping[str, int]
    documents: Mapping[str, DocumentEntry]
    index: Index
    words: Bm25Index
    stamp: tuple[int, int]

    @property
    def settings(self) -> Settings:
        return self.manifest.settings

    @classmethod
    def open(cls, store: Path, name: str, *, exact: bool = False) -> "Collection":
        """Read a collection; another process may publish it at the same time.

        Args:
            exact: search with the naive index instead of FAISS.

        Raises:
            UnknownCollection: there is none of that name.
            OtherFormat: another version of kvblend wrote it.
            CollectionError: it is damaged.
        """
        if not NAME.fullmatch(name) or not (collection_folder(store, name) / MANIFEST).is_file():
            known = ", ".join(list_collections(store)) or "none yet"
            raise UnknownCollection(
                f"no collection {name!r} in {store} (there: {known}): run kvblend precompute"
            )
        for _ in range(OPEN_ATTEMPTS):
            with suppress(FileNotFoundError):
                return _read(collection_folder(store, name), exact)
        raise CollectionError(
            f"collection {name!r} in {store} lacks data files: run kvblend precompute again"
        )

    def is_current(self) -> bool:
        """Whether the state on disk is still this one."""
        try:
            return _stamp((self.folder / MANIFEST).stat()) == self.stamp
        except FileNotFoundError:
            return False


def _read(folder: Path, exact: bool) -> Collection:
    with open(folder / MANIFEST, "rb") as file:
        stamp, data = _stamp(os.fstat(file.fileno())), file.read()
    try:
        manifest = Manifest.from_bytes(data)
        lines = _read_data(folder / manifest.chunks_file, CHUNKS).splitlines()
        index = read_index(_read_data(folder / manifest.index_file, INDEX))
        words = Bm25Index.from_bytes(_read_data(folder / manifest.words_file, WORDS))
    except OtherFormat as error:
        raise OtherFormat(f"collection {folder}: {error}") from error
    except (CollectionError, ValueError) as error:
        raise CollectionError(
            f"collection {folder} is damaged: {error}; run kvblend precompute again"
        ) from error
    places: dict[str, list[Place]] = {}
    for document in manifest.documents:
        for i, chunk_id in enumerate(document.chunk_ids):
            places.setdefault(chunk_id, []).append(Place(document.path, document.title, i))
    read = [json.loads(line) for line in lines]
    return Collection(
        folder=folder,
        manifest=manifest,
        chunks=tuple(Chunk(**fields, places=tuple(places[fields["chunk_id"]])) for fields in read),
        rows={fields["chunk_id"]: row for row, fields in enumerate(read)},
        documents={document.path: document for document in manifest.documents},
        index=ExactIndex(index.vectors) if exact else index,
        words=words,
        stamp=stamp,
    )


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_ino, status.st_mtime_ns


def _read_data(path: Path, pattern: str) -> bytes:
    data = path.read_bytes()
    if data_name(pattern, data) != path.name:
        raise ValueError(f"{path.name} does not match its digest")
    return data
