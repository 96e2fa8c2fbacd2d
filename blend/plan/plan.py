"""The plan of a blend: which spans of a prompt are which chunk, as pure integers."""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace

from blend.chunks.chunk import ChunkRecord
from blend.plan.repeats import Interval, repeats, within


@dataclass(frozen=True, slots=True)
class Again:
    """What a chunk holds of text that stood in the prompt before it.

    Attributes:
        record: the chunk's echo, see `blend.versions`.
        rows: half-open intervals of its rows that are taken from it, ascending.
    """

    record: ChunkRecord
    rows: tuple[Interval, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """A chunk that stands in a prompt at positions `start .. stop - 1`.

    Attributes:
        exact: its stored KV equals a full prefill's here (it stands where it was computed, behind
            the very tokens it was computed behind), so it is never selected.
        again: rows that are taken from another version, or None.
    """

    record: ChunkRecord
    start: int
    exact: bool
    again: Again | None = None

    @property
    def records(self) -> tuple[ChunkRecord, ...]:
        """All that its rows are taken from."""
        return (self.record,) if self.again is None else (self.record, self.again.record)

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
        spans: known chunks; whatever lies between them is a gap.
        suffix_ids: the prompt's tokens after the context.
    """

    token_ids: tuple[int, ...]
    spans: tuple[Span, ...]
    suffix_ids: tuple[int, ...] = ()

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def gaps(self) -> tuple[tuple[int, int], ...]:
        """Half-open intervals of context positions that belong to no known chunk."""
        edges = [0, *(edge for span in self.spans for edge in (span.start, span.stop)), self.num_tokens]
        return tuple((a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b)

    def with_inexact(self, chunk_ids: Set[str]) -> "BlendPlan":
        """The same with the spans of some chunks open to selection, wherever they stand.

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

    The last token of a prompt is always left to the engine: a chunk that ends the prompt is planned
    up to that token, so the context is cut there and the span keeps its full record.

    Args:
        prompt_ids: the whole prompt.
        found: (start, record) pairs in ascending order, without overlap.
        echo_of: the known echo of a record, or None; without it no rows are taken from echoes.
    """
    spans = tuple(
        Span(record, start, exact=record.leap is None and tuple(prompt_ids[:start]) == record.prefix_ids)
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
    again = repeats(token_ids)
    rows = [within(again, span.start, span.stop) for span in spans]
    return tuple(
        replace(span, again=Again(echo, own)) if echo and own else span
        for span, echo, own in zip(spans, echoes, rows, strict=True)
    )
