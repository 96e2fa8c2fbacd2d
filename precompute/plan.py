"""The plan of a job: which chunks the collection holds, and which of them must be computed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from blend.chunks.chunk import ChunkRecord
from blend.chunks.shared_text import SharedText
from blend.chunks.versions import Prefixes, ids_of
from precompute.engine import ChunkEngine
from retriever.filters import Metadata
from retriever.manifest import DocumentEntry


@dataclass(frozen=True, slots=True)
class ChunkedDocument:
    """A document as chunk texts.

    Attributes:
        path: relative to the folder.
        sha256: hexadecimal digest of the file's bytes.
        metadata: for filters.
    """

    path: str
    title: str
    sha256: str
    texts: tuple[str, ...]
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlannedChunk:
    """A chunk by its text: its token ids are computed again later, so that the plan stays small.

    Attributes:
        chunk_id: key of the plain version, the chunk's id.
        led_id: key of the led version, or None for a chunk that is too long for one.
        echo_id: key of the echo, or None for a chunk that needs none or is too long for one.
    """

    chunk_id: str
    led_id: str | None
    echo_id: str | None
    text: str
    num_tokens: int

    @property
    def ids(self) -> frozenset[str]:
        """Keys of all its versions."""
        return frozenset(key for key in (self.chunk_id, self.led_id, self.echo_id) if key is not None)


@dataclass(frozen=True, slots=True)
class Plan:
    """The new state of a collection.

    Attributes:
        prefixes: contexts behind which the chunks are computed.
        chunks: each chunk once, in order of first occurrence.
        missing: keys of versions that are not stored.
        to_compute: chunks with a missing version.
        prefixes_to_compute: missing prefixes: the prefix alone, and prefix and lead where a version needs it.
    """

    prefixes: Prefixes
    documents: tuple[DocumentEntry, ...]
    chunks: tuple[PlannedChunk, ...]
    missing: frozenset[str]
    to_compute: tuple[PlannedChunk, ...]
    prefixes_to_compute: tuple[ChunkRecord, ...]

    @property
    def tokens_to_compute(self) -> int:
        """Document tokens, each counted once, however many versions of its chunk are missing."""
        return sum(chunk.num_tokens for chunk in self.to_compute)

    @property
    def ids(self) -> frozenset[str]:
        """Keys of everything that the collection needs: all versions of its chunks, and their prefixes."""
        return _heads(self.prefixes, self.chunks).union(*(chunk.ids for chunk in self.chunks))


def make_plan(engine: ChunkEngine, prefix: str, documents: Iterable[ChunkedDocument]) -> Plan:
    """Turn chunk texts into chunk ids, fetch what a remote has, and find out what is missing."""
    prefixes = engine.prefixes(prefix)
    chunks: dict[str, PlannedChunk] = {}
    shared = SharedText()
    entries = []
    for document in documents:
        ids = []
        for text in document.texts:
            token_ids = engine.encode(text)
            chunk = _planned(prefixes, text, token_ids)
            shared.add(chunk.chunk_id, token_ids)
            chunks.setdefault(chunk.chunk_id, chunk)
            ids.append(chunk.chunk_id)
        entries.append(
            DocumentEntry(document.path, document.title, document.sha256, tuple(ids), document.metadata)
        )
    for key in chunks.keys() - shared.keys():
        chunks[key] = replace(chunks[key], echo_id=None)
    needed = frozenset[str]().union(*(chunk.ids for chunk in chunks.values()))
    if engine.exchange is not None:
        engine.exchange.fetch(needed | _heads(prefixes, chunks.values()))
    # Reading the record also detects an incomplete file, and drops it.
    missing = frozenset(key for key in needed if engine.store.record(key) is None)
    return Plan(
        prefixes=prefixes,
        documents=tuple(entries),
        chunks=tuple(chunks.values()),
        missing=missing,
        to_compute=tuple(chunk for chunk in chunks.values() if chunk.ids & missing),
        prefixes_to_compute=tuple(_prefixes_to_compute(engine, prefixes, chunks.values(), missing)),
    )


def _heads(prefixes: Prefixes, chunks: Iterable[PlannedChunk]) -> frozenset[str]:
    return ids_of(prefixes.heads(chunk.num_tokens for chunk in chunks if chunk.led_id))


def _planned(prefixes: Prefixes, text: str, token_ids: list[int]) -> PlannedChunk:
    versions = prefixes.versions(token_ids)
    led_id, echo_id = (None if one is None else one.chunk_id for one in (versions.led, versions.echo))
    return PlannedChunk(versions.plain.chunk_id, led_id, echo_id, text, versions.plain.num_tokens)


def _prefixes_to_compute(
    engine: ChunkEngine, prefixes: Prefixes, chunks: Iterable[PlannedChunk], missing: frozenset[str]
) -> Iterator[ChunkRecord]:
    # Prompts begin with the prefix. No prompt holds prefix and lead: only chunks are computed behind them.
    heads = prefixes.heads(chunk.num_tokens for chunk in chunks if chunk.led_id in missing)
    yield from (record for record in heads if engine.store.record(record.chunk_id) is None)
