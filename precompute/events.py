"""Progress events of a job: small frozen values, which a renderer shows."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Started:
    collection: str
    files: int


@dataclass(frozen=True, slots=True)
class FileRead:
    """One more file was read, readable or not."""

    files: int
    files_total: int


@dataclass(frozen=True, slots=True)
class FileUnreadable:
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Information that needs no action."""

    message: str


@dataclass(frozen=True, slots=True)
class Planned:
    """The work to do; a chunk that occurs twice counts once.

    A chunk is stored in several versions (see `blend.chunks.versions`), and computed when one is missing.

    Attributes:
        reused: chunks of which all versions are stored.
        tokens_to_compute: document tokens, each counted once, however many versions are computed.
    """

    documents: int
    chunks: int
    reused: int
    to_compute: int
    tokens_to_compute: int


@dataclass(frozen=True, slots=True)
class Computed:
    """Chunks computed and stored so far.

    Attributes:
        tokens: document tokens, as in `Planned`; the rate counts them too.
        bytes: stored, all versions together, without prefix and lead.
        seconds: spent on computing, all versions together.
    """

    chunks: int
    chunks_total: int
    tokens: int
    tokens_total: int
    bytes: int
    seconds: float

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.seconds if self.seconds > 0 else 0.0

    @property
    def left_s(self) -> float:
        """Estimated seconds to the end, at the rate so far."""
        return (self.tokens_total - self.tokens) / self.tokens_per_s if self.tokens else 0.0


@dataclass(frozen=True, slots=True)
class Embedded:
    """Texts embedded so far, of those without a vector."""

    chunks: int
    chunks_total: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The closing summary.

    Attributes:
        chunks: different chunks in the collection, `computed + reused`; versions are not counted.
        computed: chunks of which this job computed a version.
        dropped: chunks whose KV, in all versions, was removed from the store.
        tokens: of all chunks, each counted once.
        computed_tokens: of the computed chunks, each counted once, however many versions were computed.
        bytes: stored by this job, all versions together.
        seconds: of the whole job.
        tokens_per_s: `computed_tokens` divided by the seconds spent on computing, all versions together.
        unreadable: files that were skipped, each reported.
        binary: binary files that were skipped.
    """

    collection: str
    documents: int
    chunks: int
    computed: int
    reused: int
    dropped: int
    tokens: int
    computed_tokens: int
    bytes: int
    seconds: float
    tokens_per_s: float
    unreadable: int
    binary: int


Event = Started | FileRead | FileUnreadable | Notice | Planned | Computed | Embedded | Finished
Report = Callable[[Event], None]
