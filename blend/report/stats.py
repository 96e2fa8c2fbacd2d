"""What happened to one request, in numbers."""

from dataclasses import asdict, dataclass, field
from typing import Any

from blend.report.detail import ContextDetail


@dataclass(frozen=True, slots=True)
class ChunkUse:
    """One known chunk of a prompt."""

    chunk_id: str
    start: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class BlendStats:
    """Token counts and milliseconds of one blended (or not blended) request.

    The four kinds of context tokens never overlap and add up to `context_tokens`.

    Attributes:
        context_tokens: tokens up to the end of the last known chunk.
        exact_tokens: taken from stored KV that equals a full prefill's.
        reused_tokens: taken from stored KV that approximates a full prefill's.
        recomputed_tokens: of known chunks, selected and computed again.
        cold_tokens: of no known chunk (or of one that could not be read), computed.
        ratio: recompute ratio in force.
        residual: share of the question's attention left on rows that approximate a full prefill's, or
            None when the selector does not look at the question; the less, the closer the answer.
        fallback: why the request was prefilled normally, or None when it was blended.
        selected: context positions that were computed, ascending; only of requests that are traced.
        tokens: what became of each context token; only of requests that ask for it.
    """

    chunks: tuple[ChunkUse, ...] = ()
    context_tokens: int = 0
    exact_tokens: int = 0
    reused_tokens: int = 0
    recomputed_tokens: int = 0
    cold_tokens: int = 0
    ratio: float = 0.0
    selector: str = ""
    residual: float | None = None
    match_ms: float = 0.0
    load_ms: float = 0.0
    realign_ms: float = 0.0
    select_ms: float = 0.0
    recompute_ms: float = 0.0
    write_ms: float = 0.0
    fallback: str | None = field(default=None)
    selected: tuple[int, ...] = ()
    tokens: ContextDetail | None = None

    @property
    def cached_tokens(self) -> int:
        """Context tokens that were not computed for this request."""
        return self.exact_tokens + self.reused_tokens

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready object with a key per attribute; `selected` and `tokens` only where there are any."""
        data = asdict(self)
        if not self.selected:
            del data["selected"]
        if self.tokens is None:
            del data["tokens"]
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "BlendStats":
        """Inverse of `to_json`."""
        chunks = tuple(ChunkUse(**chunk) for chunk in data["chunks"])
        selected, tokens = tuple(data.get("selected", ())), data.get("tokens")
        detail = None if tokens is None else ContextDetail.from_json(tokens)
        return cls(**{**data, "chunks": chunks, "selected": selected, "tokens": detail})
