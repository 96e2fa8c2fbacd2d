"""Statistics of one request: token counts, stage times, and why it was prefilled instead of blended."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from blend.report.detail import ContextDetail


@dataclass(frozen=True, slots=True)
class ChunkUse:
    """One known chunk of a prompt."""

    chunk_id: str
    start: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Context tokens by where their KV comes from; the four kinds never overlap.

    Attributes:
        exact_tokens: taken from stored KV that equals a full prefill's.
        reused_tokens: taken from stored KV that approximates a full prefill's.
        recomputed_tokens: of known chunks, selected and computed again.
        cold_tokens: of no known chunk (or of a chunk that could not be read), computed.

    >>> (TokenCounts(reused_tokens=5) + TokenCounts(exact_tokens=2, reused_tokens=1)).cached_tokens
    8
    """

    exact_tokens: int = 0
    reused_tokens: int = 0
    recomputed_tokens: int = 0
    cold_tokens: int = 0

    @property
    def cached_tokens(self) -> int:
        """Context tokens that were not computed for this request."""
        return self.exact_tokens + self.reused_tokens

    @property
    def num_tokens(self) -> int:
        """All four kinds."""
        return self.cached_tokens + self.recomputed_tokens + self.cold_tokens

    def __add__(self, other: "TokenCounts") -> "TokenCounts":
        return TokenCounts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Milliseconds of a request by stage."""

    match_ms: float = 0.0
    load_ms: float = 0.0
    realign_ms: float = 0.0
    select_ms: float = 0.0
    recompute_ms: float = 0.0
    write_ms: float = 0.0

    @property
    def cached_rows_ms(self) -> float:
        """What the cached rows cost: reading, realigning and writing them."""
        return self.load_ms + self.realign_ms + self.write_ms


class StageClock:
    """Measures the stages of one blend; a stage may be entered many times.

    >>> clock = StageClock()
    >>> with clock.time("load"):
    ...     pass
    >>> clock.times.load_ms > 0 and clock.times.select_ms == 0
    True
    """

    def __init__(self) -> None:
        self._ms = {field.name: 0.0 for field in fields(StageTimes)}

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the time that the block takes to a stage, such as "load"."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._ms[f"{stage}_ms"] += (time.perf_counter() - begin) * 1e3

    @property
    def times(self) -> StageTimes:
        """What was measured so far."""
        return StageTimes(**self._ms)


@dataclass(frozen=True, slots=True)
class BlendStats:
    """What happened to one request, blended or not.

    Attributes:
        chunks: known chunks of the prompt, in order.
        context_tokens: tokens up to the end of the last known chunk; `counts` add up to it.
        ratio: recompute ratio in force.
        residual: share of the question's attention that goes to rows that approximate a full prefill's: the
            smaller, the closer the answer. None when the selector does not look at the question.
        fallback: why the request was prefilled normally, or None when it was blended.
        selected: context positions that were computed, ascending; filled for traced requests only.
        tokens: what became of each context token; filled for requests that ask for it only.
    """

    chunks: tuple[ChunkUse, ...] = ()
    context_tokens: int = 0
    counts: TokenCounts = field(default_factory=TokenCounts)
    ratio: float = 0.0
    selector: str = ""
    residual: float | None = None
    times: StageTimes = field(default_factory=StageTimes)
    fallback: str | None = None
    selected: tuple[int, ...] = ()
    tokens: ContextDetail | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready object: counts and times stand beside the other keys, `selected` and `tokens` only
        when filled.

        >>> stats = BlendStats(counts=TokenCounts(exact_tokens=1))
        >>> BlendStats.from_json(stats.to_json()) == stats
        True
        """
        data: dict[str, Any] = {}
        for name, value in asdict(self).items():
            data |= value if name in ("counts", "times") else {name: value}
        if not self.selected:
            del data["selected"]
        if self.tokens is None:
            del data["tokens"]
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "BlendStats":
        """Inverse of `to_json`."""
        rest = dict(data)
        counts = TokenCounts(**{f.name: rest.pop(f.name) for f in fields(TokenCounts)})
        times = StageTimes(**{f.name: rest.pop(f.name) for f in fields(StageTimes)})
        chunks = tuple(ChunkUse(**chunk) for chunk in rest.pop("chunks"))
        selected, tokens = tuple(rest.pop("selected", ())), rest.pop("tokens", None)
        detail = None if tokens is None else ContextDetail.from_json(tokens)
        return cls(chunks, counts=counts, times=times, selected=selected, tokens=detail, **rest)
