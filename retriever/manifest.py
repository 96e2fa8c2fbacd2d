"""The manifest of a collection: what it is bound to, its documents, and the data files that are current."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from retriever.errors import CollectionError

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Settings:
    """What a collection is bound to. Model and chunk ids are opaque here.

    Attributes:
        name: the collection's.
        model: name of the model whose chunk KV was computed.
        fingerprint: digest of that model.
        prefix: text before the first chunk.
        prefix_chunk_id: chunk of the prefix itself, or None when it has no tokens.
        chunk_tokens: most tokens of a chunk.
        chunking: name of the rule that made texts of files, and chunks of texts.
        embedder: what `retriever.embed.open_embedder` opens.
    """

    name: str
    model: str
    fingerprint: str
    prefix: str
    prefix_chunk_id: str | None
    chunk_tokens: int
    chunking: str
    embedder: str


@dataclass(frozen=True, slots=True)
class DocumentEntry:
    """One document.

    Attributes:
        path: relative to the folder, with forward slashes.
        title: what to call it in an answer.
        sha256: hexadecimal digest of the file's bytes.
        chunk_ids: its chunks in reading order; an id may occur in several documents, or twice in one.
    """

    path: str
    title: str
    sha256: str
    chunk_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """One published state of a collection.

    Attributes:
        chunks_file, index_file: file names in the collection's folder, each with its content's digest.
    """

    settings: Settings
    documents: tuple[DocumentEntry, ...]
    chunks_file: str
    index_file: str

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
            CollectionError: the bytes are no manifest, or one of another format version.
        """
        try:
            fields: dict[str, Any] = json.loads(data)
            version = fields.pop("format_version")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CollectionError(f"not a manifest: {error!r}") from error
        if version != FORMAT_VERSION:
            raise CollectionError(f"format version {version}, expected {FORMAT_VERSION}")
        try:
            documents = tuple(
                DocumentEntry(**{**entry, "chunk_ids": tuple(entry["chunk_ids"])})
                for entry in fields.pop("documents")
            )
            return cls(settings=Settings(**fields.pop("settings")), documents=documents, **fields)
        except (KeyError, TypeError) as error:
            raise CollectionError(f"fields are missing or unknown: {error}") from error
