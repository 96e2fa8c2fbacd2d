"""A change to a managed collection, from its arrival to its end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from retriever.filters import Metadata


class Status(StrEnum):
    """How far a job has come."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will change."""
        return self in (Status.COMPLETED, Status.FAILED)


class DocumentStatus(StrEnum):
    """How far a document of a job has come, in the words of OpenAI's vector stores."""

    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Upload:
    """A document as it comes.

    Attributes:
        path: relative, with forward slashes; a document of the same path is replaced.
        data: a file's bytes: text, Markdown, HTML, PDF or source.
        metadata: what filters may ask for.
    """

    path: str
    data: bytes
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobState:
    """A job as it stands at one moment.

    Attributes:
        error: why it failed, or None.
        documents: what becomes of each one, by path. A document that could not be read has failed, in a
            job that completed: the others are there. One that was removed has completed.
        errors: why a document failed, by path.
        chunks_done, chunks_total: of the run over its collection, which may do several jobs at once.
        created_at: seconds since 1970.
    """

    id: str
    collection: str
    status: Status
    error: str | None
    documents: Mapping[str, DocumentStatus]
    errors: Mapping[str, str]
    chunks_done: int
    chunks_total: int
    created_at: float

    @property
    def ended(self) -> bool:
        """Whether nothing more will change."""
        return self.status.is_final
