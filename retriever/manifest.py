"""The manifest of a collection: its settings, its documents, and its current data files."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from retriever.errors import CollectionError, OtherFormat
from retriever.filters import Metadata

FORMAT_VERSION = 2


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings that a collection is bound to. Model and chunk ids are opaque here.

    Attributes:
        name: the collection's.
        model: name of the model whose chunk KV was computed.
        fingerprint: digest of that model.
        prefix: text before the first chunk.
        prefix_chunk_id: chunk of the prefix itself, or None when it has no tokens.
        chunk_tokens: maximum tokens of a chunk.
        chunking: name of the rule that made texts of files, and chunks of texts.
        embedder: argument of `retriever.embed.open_embedder`.
        namespace: tenant that may read the collection, "" for all; opaque here.
    """

    name: str
    model: str
    fingerprint: str
    prefix: str
    prefix_chunk_id: str | None
    chunk_tokens: int
    chunking: str
    embedder: str
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class DocumentEntry:
    """One document.

    Attributes:
        path: relative to the folder, with forward slashes.
        title: name of the document in answers.
        sha256: hexadecimal digest of the file's bytes.
        chunk_ids: its chunks in reading order; an id may occur in several documents, or twice in one.
        metadata: for filters; lists are tuples.
    """

    path: str
    title: str
    sha256: str
    chunk_ids: tuple[str, ...]
    metadata: Metadata = field(default_factory=dict)

    @property
    def filterable(self) -> Metadata:
        """Metadata that filters see."""
        return {**self.metadata, "path": self.path, "title": self.title}


@dataclass(frozen=True, slots=True)
class Manifest:
    """One published state of a collection.

    Attributes:
        chunks_file, index_file, words_file: names in the collection's folder, each with its content's digest.
    """

    settings: Settings
    documents: tuple[DocumentEntry, ...]
    chunks_file: str
    index_file: str
    words_file: str

    @property
    def data_files(self) -> tuple[str, ...]:
        """Names of all files but the manifest's own."""
        return self.chunks_file, self.index_file, self.words_file

    @property
    def chunk_ids(self) -> frozenset[str]:
        """Every chunk that the collection needs, the prefix's included."""
        ids = {chunk_id for document in self.documents for chunk_id in document.chunk_ids}
        prefix = self.settings.prefix_chunk_id
        return frozenset(ids if prefix is None else ids | {prefix})

    def to_bytes(self) -> bytes:
        """The manifest as a JSON file; equal manifests give equal bytes."""
        return json.dumps({"format_version": FORMAT_VERSION, **asdict(self)}, indent=1).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """Inverse of `to_bytes`.

        Raises:
            OtherFormat: a manifest of another format version.
            CollectionError: the bytes are not a manifest.
        """
        try:
            fields: dict[str, Any] = json.loads(data)
            version = fields.pop("format_version")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CollectionError(f"not a manifest: {error!r}") from error
        if version != FORMAT_VERSION:
            raise OtherFormat(
                f"got format version {version}, expected {FORMAT_VERSION}: another kvblend wrote it; "
                "run kvblend precompute again"
            )
        try:
            documents = tuple(map(_document, fields.pop("documents")))
            return cls(settings=Settings(**fields.pop("settings")), documents=documents, **fields)
        except (KeyError, TypeError, AttributeError) as error:
            raise CollectionError(f"fields are missing or unknown: {error}") from error


def _document(entry: dict[str, Any]) -> DocumentEntry:
    metadata = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in entry.pop("metadata").items()
    }
    return DocumentEntry(chunk_ids=tuple(entry.pop("chunk_ids")), metadata=metadata, **entry)
