"""How much the server takes in, and how much of the engine's time that may take; all defaults stand here."""

from dataclasses import dataclass

from precompute.config import DEFAULTS as PRECOMPUTE_DEFAULTS


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """Limits of ingestion.

    Attributes:
        embedder: embedding model of collections that are made from now on, as `open_embedder` takes it.
        share: of the engine's time, in (0, 1], while requests are being served.
        max_document_bytes: of one document, and of one uploaded file.
        max_files_bytes: of all uploaded files together.
        max_documents: in one job.
        max_metadata_bytes: of one document's description, as JSON.
        max_waiting_jobs: that have not ended, over all collections.
        kept_jobs: that have ended and can still be asked for.
        max_learned_chunks: of documents that came in chat requests; the least recently used one goes.
        max_chat_documents: in one chat request.
        max_chat_chars: of all documents of a chat request together.
    """

    embedder: str = PRECOMPUTE_DEFAULTS.embedder
    share: float = 0.25
    max_document_bytes: int = 32 * 2**20
    max_files_bytes: int = 16 * 2**30
    max_documents: int = 1000
    max_metadata_bytes: int = 16 * 2**10
    max_waiting_jobs: int = 1000
    kept_jobs: int = 1000
    max_learned_chunks: int = 4096
    max_chat_documents: int = 128
    max_chat_chars: int = 2**20


DEFAULTS = IngestSettings()
