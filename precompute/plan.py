"""Which chunks a collection consists of, and which of them are to be computed."""

from collections.abc import Iterable
from dataclasses import dataclass

from blend.chunk import ChunkRecord, make_record
from precompute.engine import ChunkEngine
from retriever.manifest import DocumentEntry


@dataclass(frozen=True, slots=True)
class ChunkedDocument:
    """A document as chunk texts.

    Attributes:
        path: relative to the folder.
        sha256: hexadecimal digest of the file's bytes.
    """

    path: str
    title: str
    sha256: str
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlannedChunk:
    """A chunk by its text: its token ids are made again when it is computed, so that a plan stays small."""

    chunk_id: str
    text: str
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A collection as it is to be.

    Attributes:
        prefix: the prefix itself as a chunk, or None when it has no tokens.
        prefix_ids: tokens that every chunk is computed behind.
        chunks: each chunk once, in order of first occurrence.
        to_compute: those of `chunks` that are not stored.
    """

    prefix: ChunkRecord | None
    prefix_ids: tuple[int, ...]
    documents: tuple[DocumentEntry, ...]
    chunks: tuple[PlannedChunk, ...]
    to_compute: tuple[PlannedChunk, ...]

    @property
    def tokens_to_compute(self) -> int:
        return sum(chunk.num_tokens for chunk in self.to_compute)

    @property
    def chunk_ids(self) -> frozenset[str]:
        """Every chunk that is needed, the prefix's included."""
        ids = frozenset(chunk.chunk_id for chunk in self.chunks)
        return ids if self.prefix is None else ids | {self.prefix.chunk_id}


def make_plan(engine: ChunkEngine, prefix: str, documents: Iterable[ChunkedDocument]) -> Plan:
    """Turn chunk texts into chunk ids, and look which of them are stored."""
    prefix_ids = engine.prefix_ids(prefix)
    chunks: dict[str, PlannedChunk] = {}
    entries = []
    for document in documents:
        ids = []
        for text in document.texts:
            record = make_record(engine.fingerprint, prefix_ids, engine.encode(text))
            chunks.setdefault(record.chunk_id, PlannedChunk(record.chunk_id, text, record.num_tokens))
            ids.append(record.chunk_id)
        entries.append(DocumentEntry(document.path, document.title, document.sha256, tuple(ids)))
    return Plan(
        prefix=make_record(engine.fingerprint, (), prefix_ids) if prefix_ids else None,
        prefix_ids=prefix_ids,
        documents=tuple(entries),
        chunks=tuple(chunks.values()),
        # Reading the record also finds a file that is not whole, and drops it.
        to_compute=tuple(c for c in chunks.values() if engine.store.record(c.chunk_id) is None),
    )
