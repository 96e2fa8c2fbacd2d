"""What a job reports while it runs: small frozen values, which a renderer shows."""

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
    """Something that the user should know and need not act on."""

    message: str


@dataclass(frozen=True, slots=True)
class Planned:
    """What there is to do; chunks that occur twice count once.

    A chunk is stored in two versions (see `blend.chunks.versions`), and is to be computed when one is
    missing.

    Attributes:
        reused: chunks that are stored in all their versions.
        tokens_to_compute: of the documents: a token counts once, however many versions are computed.
    """

    documents: int
    chunks: int
    reused: int
    to_compute: int
    tokens_to_compute: int


@dataclass(frozen=True, slots=True)
class Computed:
    """Chunks computed and stored so far, of those that there are to compute.

    Attributes:
        tokens: of the documents, as in `Planned`; so is the rate.
        bytes: stored, of all versions together; prefix and lead are not counted.
        seconds: of computing, all versions together.
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
        """Seconds that the rest takes at the rate so far."""
        return (self.tokens_total - self.tokens) / self.tokens_per_s if self.tokens else 0.0


@dataclass(frozen=True, slots=True)
class Embedded:
    """Texts embedded so far, of those that have no vector yet."""

    chunks: int
    chunks_total: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The closing summary.

    Attributes:
        chunks: different chunks in the collection, `computed + reused`; versions are not counted.
        computed: chunks of which a version was computed now.
        dropped: chunks whose KV was removed from the store, in all versions.
        tokens: of all chunks, each once.
        computed_tokens: of the chunks computed now, each once, however many versions were computed.
        bytes: stored now, of all versions together.
        seconds: of the whole job.
        tokens_per_s: `computed_tokens` by the seconds of computing all versions, not of the whole job.
        unreadable: files that were named and passed over.
        binary: files that are not text and do not claim to be.
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
