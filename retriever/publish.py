"""Making a state of a collection the current one."""

import errno
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from retriever.durable import write_durably
from retriever.errors import CollectionError
from retriever.index import FaissIndex, Vectors
from retriever.layout import CHUNKS, INDEX, MANIFEST, collection_folder, data_name
from retriever.manifest import DocumentEntry, Manifest, Settings


def publish(
    store: Path,
    settings: Settings,
    documents: Sequence[DocumentEntry],
    texts: Mapping[str, str],
    vectors: Vectors,
) -> Manifest:
    """Make a state of a collection the current one. One writer at a time.

    Args:
        texts: text of each chunk id that occurs in `documents`.
        vectors: float32 [len(texts), dim], in the order of `texts`.

    Raises:
        CollectionError: the name is not one, or the files cannot be written; the old state stays.
    """
    assert set(texts) == {key for document in documents for key in document.chunk_ids}
    assert vectors.shape[0] == len(texts)
    folder = collection_folder(store, settings.name)
    lines = "".join(json.dumps({"chunk_id": key, "text": text}) + "\n" for key, text in texts.items())
    chunks, index = lines.encode(), FaissIndex(vectors).to_bytes()
    manifest = Manifest(settings, tuple(documents), data_name(CHUNKS, chunks), data_name(INDEX, index))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        old = _current(folder)
        write_durably(folder / manifest.chunks_file, chunks)
        write_durably(folder / manifest.index_file, index)
        if old != manifest:  # readers take a new manifest for a new state
            write_durably(folder / MANIFEST, manifest.to_bytes())
    except OSError as error:
        reason = "no space left" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
        raise CollectionError(f"cannot write collection {folder}: {reason}; its old state stays") from error
    # Readers that hold the old manifest may still be opening its files: those go with the next one.
    _remove_data(
        folder,
        keep={name for state in (manifest, old) if state for name in (state.chunks_file, state.index_file)},
    )
    return manifest


def _current(folder: Path) -> Manifest | None:
    try:
        return Manifest.from_bytes((folder / MANIFEST).read_bytes())
    except (FileNotFoundError, CollectionError):
        return None


def _remove_data(folder: Path, keep: set[str]) -> None:
    """Remove data files of earlier states, and temporary files: the only writer is this one."""
    stale = (
        path for pattern in (CHUNKS.format("*"), INDEX.format("*"), ".*.tmp") for path in folder.glob(pattern)
    )
    for path in stale:
        if path.name not in keep:
            with suppress(OSError):
                path.unlink()
