"""The plan of a blend: which spans of a prompt are which chunk, and which rows repeat earlier text."""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace

from blend.chunks.chunk import ChunkRecord

REPEAT_TOKENS = 6
"""Length of a run of tokens that counts as repeated. Shorter runs recur by chance."""

Interval = tuple[int, int]
"""Half-open."""


@dataclass(frozen=True, slots=True)
class EchoedRows:
    """Rows of a chunk whose text stands in the prompt before the chunk; they are taken from its echo.

    Attributes:
        record: the chunk's echo, see `blend.chunks.versions`.
        rows: half-open intervals of the chunk's rows, ascending.
    """

    record: ChunkRecord
    rows: tuple[Interval, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """A chunk at positions `start .. stop - 1` of a prompt.

    Attributes:
        exact: the stored KV equals a full prefill's here, because the chunk stands at the position and behind
            the very tokens it was computed behind; it is never selected.
        echoed: rows that are taken from the chunk's echo, or None.
    """

    record: ChunkRecord
    start: int
    exact: bool
    echoed: EchoedRows | None = None

    @property
    def records(self) -> tuple[ChunkRecord, ...]:
        """The stored versions that its rows are taken from."""
        return (self.record,) if self.echoed is None else (self.record, self.echoed.record)

    @property
    def stop(self) -> int:
        return self.start + self.record.num_tokens


@dataclass(frozen=True, slots=True)
class BlendPlan:
    """Spans in ascending order, without overlap, over context positions `0 .. num_tokens - 1`.

    ::

        0        s0.start   s0.stop  s1.start    s1.stop == num_tokens      len(prompt)
        |  gap   | chunk 0  |  gap   |  chunk 1  |          suffix           |

    Attributes:
        token_ids: the context's tokens.
        spans: known chunks; the positions between them are gaps.
        suffix_ids: the prompt's tokens after the context.
    """

    token_ids: tuple[int, ...]
    spans: tuple[Span, ...]
    suffix_ids: tuple[int, ...] = ()

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def gaps(self) -> tuple[Interval, ...]:
        """Half-open intervals of context positions that belong to no known chunk."""
        edges = [0, *(edge for span in self.spans for edge in (span.start, span.stop)), self.num_tokens]
        return tuple((a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b)

    def with_inexact(self, chunk_ids: Set[str]) -> "BlendPlan":
        """The same plan with all spans of some chunks open to selection.

        >>> plan = BlendPlan((7,), (Span(ChunkRecord("a", (7,), ()), 0, exact=True),))
        >>> plan.with_inexact({"a"}).spans[0].exact, plan.with_inexact(set()) == plan
        (False, True)
        """
        spans = (
            replace(span, exact=span.exact and span.record.chunk_id not in chunk_ids) for span in self.spans
        )
        return replace(self, spans=tuple(spans))


EchoOf = Callable[[ChunkRecord], ChunkRecord | None]


def make_plan(
    prompt_ids: Sequence[int], found: Sequence[tuple[int, ChunkRecord]], echo_of: EchoOf | None = None
) -> BlendPlan:
    """Plan for a prompt in which chunks were found.

    The engine always computes the last token of a prompt. If a chunk ends the prompt, the context is cut
    before that token, and the span keeps its full record.

    Args:
        prompt_ids: the whole prompt.
        found: (start, record) pairs in ascending order, without overlap.
        echo_of: the known echo of a record, or None; without it no rows are taken from echoes.
    """
    spans = tuple(
        Span(record, start, record.position_gap is None and tuple(prompt_ids[:start]) == record.prefix_ids)
        for start, record in found
    )
    stop = min(spans[-1].stop, len(prompt_ids) - 1) if spans else 0
    context = tuple(span for span in spans if span.start < stop)
    if echo_of is not None:
        context = _with_echoes(prompt_ids[:stop], context, echo_of)
    return BlendPlan(tuple(prompt_ids[:stop]), context, tuple(prompt_ids[stop:]))


def _with_echoes(token_ids: Sequence[int], spans: tuple[Span, ...], echo_of: EchoOf) -> tuple[Span, ...]:
    echoes = [None if span.exact else echo_of(span.record) for span in spans]
    if not any(echoes):
        return spans
    repeated = repeats(token_ids)
    rows = [within(repeated, span.start, span.stop) for span in spans]
    return tuple(
        replace(span, echoed=EchoedRows(echo, intervals)) if echo and intervals else span
        for span, echo, intervals in zip(spans, echoes, rows, strict=True)
    )


def repeats(token_ids: Sequence[int], num: int = REPEAT_TOKENS) -> list[Interval]:
    """Intervals of positions that each end a run of `num` tokens which also stands earlier.

    Ascending; no two of them touch.

    >>> repeats([1, 2, 3, 9, 1, 2, 3, 4], num=2)
    [(5, 7)]
    """
    ids, seen = tuple(token_ids), set[tuple[int, ...]]()
    found: list[Interval] = []
    for stop in range(num, len(ids) + 1):
        run = ids[stop - num : stop]
        if run not in seen:
            seen.add(run)
        elif found and found[-1][1] == stop - 1:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((stop - 1, stop))
    return found


def within(intervals: Sequence[Interval], start: int, stop: int) -> tuple[Interval, ...]:
    """The parts of intervals inside `start .. stop - 1`, counted from `start`.

    >>> within([(2, 5), (7, 9)], 3, 8)
    ((0, 2), (4, 5))
    """
    cut = ((max(a, start) - start, min(b, stop) - start) for a, b in intervals)
    return tuple((a, b) for a, b in cut if a < b)
