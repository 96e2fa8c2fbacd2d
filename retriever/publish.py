"""Publication of a new state of a collection."""

import errno
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from retriever.bm25 import Bm25Index
from retriever.durable import write_durably
from retriever.errors import CollectionError
from retriever.index import Index, Vectors
from retriever.index_choice import build_index, read_index
from retriever.layout import CHUNKS, INDEX, MANIFEST, WORDS, collection_folder, data_name
from retriever.manifest import DocumentEntry, Manifest, Settings


@dataclass(frozen=True, slots=True)
class ChunkText:
    """A chunk to be published.

    Attributes:
        num_tokens: tokens of the served model, for the chunk in the middle of a prompt.
    """

    chunk_id: str
    text: str
    num_tokens: int


def publish(
    store: Path,
    settings: Settings,
    documents: Sequence[DocumentEntry],
    chunks: Sequence[ChunkText],
    vectors: Vectors,
) -> Manifest:
    """Publish a state of a collection. One writer at a time.

    Args:
        chunks: each chunk id that occurs in `documents`, once.
        vectors: float32 [len(chunks), dim], in the order of `chunks`.

    Raises:
        CollectionError: the name is invalid, or the files cannot be written; the old state stays.
    """
    assert {chunk.chunk_id for chunk in chunks} == {key for entry in documents for key in entry.chunk_ids}
    assert vectors.shape[0] == len(chunks)
    folder = collection_folder(store, settings.name)
    old = _current(folder)
    files = {
        CHUNKS: "".join(json.dumps(asdict(chunk)) + "\n" for chunk in chunks).encode(),
        INDEX: build_index(vectors, _previous(folder, old)).to_bytes(),
        WORDS: Bm25Index([chunk.text for chunk in chunks]).to_bytes(),
    }
    names = {pattern: data_name(pattern, data) for pattern, data in files.items()}
    manifest = Manifest(settings, tuple(documents), names[CHUNKS], names[INDEX], names[WORDS])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for pattern, data in files.items():
            write_durably(folder / names[pattern], data)
        if old != manifest:  # for readers a new manifest means a new state
            write_durably(folder / MANIFEST, manifest.to_bytes())
    except OSError as error:
        reason = "no space left" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
        raise CollectionError(f"cannot write collection {folder}: {reason}; its old state stays") from error
    # Readers of the old manifest may still open its files: the next publication removes them.
    _remove_data(folder, keep={*manifest.data_files, *(old.data_files if old else ())})
    return manifest


def _current(folder: Path) -> Manifest | None:
    try:
        return Manifest.from_bytes((folder / MANIFEST).read_bytes())
    except (FileNotFoundError, CollectionError):
        return None


def _previous(folder: Path, old: Manifest | None) -> Index | None:
    """The old state's index, to be updated; a missing or damaged index is rebuilt."""
    if old is None:
        return None
    with suppress(OSError, ValueError):
        data = (folder / old.index_file).read_bytes()
        if data_name(INDEX, data) == old.index_file:
            return read_index(data)
    return None


def _remove_data(folder: Path, keep: set[str]) -> None:
    """Remove data files of earlier states, and temporary files: there is only one writer."""
    patterns = (*(pattern.format("*") for pattern in (CHUNKS, INDEX, WORDS)), ".*.tmp")
    for path in [path for pattern in patterns for path in folder.glob(pattern)]:
        if path.name not in keep:
            with suppress(OSError):
                path.unlink()
