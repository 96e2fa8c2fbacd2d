"""Where the rows of a context come from and go to: spans of the plan with their stored KV."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from blend.maths.rope import Rotation
from blend.plan.plan import Span
from blend.vllm.worker.reading import ChunkLayers


@dataclass(frozen=True, slots=True)
class Loaded:
    """A span of the plan with its stored KV, and the rotation to its place; and its echo with its own."""

    span: Span
    chunk: ChunkLayers
    turn: Rotation
    is_lossless: bool
    echo: "Loaded | None" = None

    @property
    def is_exact(self) -> bool:
        """Whether its rows are a full prefill's: stored here, and stored whole."""
        return self.span.exact and self.is_lossless

    def parts(self, own: slice) -> Iterator[tuple["Loaded", slice]]:
        """Some rows in parts, each with what it is taken from; in their order."""
        at, again = own.start, self.span.again
        if again is not None and self.echo is not None:
            for first, stop in again.rows:
                first, stop = max(first, at), min(stop, own.stop)
                if first < stop:
                    if at < first:
                        yield self, slice(at, first)
                    yield self.echo, slice(first, stop)
                    at = stop
        if at < own.stop:
            yield self, slice(at, own.stop)


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where the rows of every layer come from and go to; the same for all layers.

    Attributes:
        parts: chunks with the rows wanted of each, in the order of the context.
        turn: of all these rows; None when there are none.
        rows: int64 [M], where they go.
        num_rows: of the result.
    """

    parts: tuple[tuple[Loaded, slice], ...]
    turn: Rotation | None
    rows: torch.Tensor
    num_rows: int

    def place(self, covered: torch.Tensor) -> torch.Tensor:
        """Rows [M, H, D] at their places, the others zero: [num_rows, H, D]."""
        if covered.shape[0] == self.num_rows:
            return covered
        placed = covered.new_zeros(self.num_rows, *covered.shape[1:])
        return placed.index_copy_(0, self.rows, covered)
