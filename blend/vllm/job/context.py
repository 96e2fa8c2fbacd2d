"""The cached rows of a request's context: the contract, and a context of rows kept in memory."""

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Protocol

import torch

from blend.plan.plan import BlendPlan
from blend.report.stats import StageClock
from blend.select.choose import open_inexact
from blend.vllm.messages import BlendTask

Rows = tuple[torch.Tensor, torch.Tensor]
"""Keys and values of one layer, [T, H, D] each."""


class ChunkLost(Exception):
    """A chunk was found but could not be read to its end: the blend starts again without it."""


class Context(Protocol):
    """The cached rows of a plan at each layer, and how good they are. `N` context tokens.

    Attributes:
        start: first row to fill; the rows before it are in the engine's pages.
        cold_from_first: bool [N], rows of which nothing is cached.
        cold: bool [N - start], the same from `start` on.
        computed: bool [N], rows that were computed for this very context.
        exact_from_first: bool [N], rows that equal a full prefill's.
        unreadable: ids of chunks that were planned but could not be read.
        is_known_before_start: whether this context holds every row before `start`, the same as in the pages.
    """

    plan: BlendPlan
    start: int
    cold: torch.Tensor
    cold_from_first: torch.Tensor
    computed: torch.Tensor
    exact_from_first: torch.Tensor
    unreadable: tuple[str, ...]

    @property
    def is_known_before_start(self) -> bool: ...

    def covered(self) -> torch.Tensor:
        """Context positions that have cached rows: int64 [M], ascending."""

    def ready(self, layer: int, clock: StageClock) -> Generator[None, None, None]:
        """Yields until the rows of a layer can be asked for.

        Raises:
            ChunkLost: a chunk cannot be read to its end.
        """

    def at_layer(self, layer: int, first: int | None = None) -> Rows:
        """Keys and values [N - first, H, D], which the caller may write to; cold rows are zero.

        Args:
            first: the first row wanted; `start` unless given.
        """

    def covered_at_layer(self, layer: int, room: int = 0) -> Rows:
        """Keys and values [M + room, H, D]: the rows of `covered`, which are read-only, then empty rows.

        Args:
            room: number of empty rows at the end, which the caller may write to.
        """


@dataclass(slots=True)
class KeptRows:
    """The rows of one blended context in a worker's memory, filled layer by layer.

    Attributes:
        computed: bool [N], rows that were computed for this context.
        exact: bool [N], rows that were taken from the store and equal a full prefill's.
        layers: keys and values [N, H, D] of each layer, this rank's heads.
    """

    computed: torch.Tensor
    exact: torch.Tensor
    layers: list[Rows] = field(default_factory=list)

    @property
    def num_bytes(self) -> int:
        return sum(keys.nbytes + values.nbytes for keys, values in self.layers)


class KeptContext:
    """A context whose rows come from an earlier blend of the same context; implements `Context`.

    A blend changes the kept rows in place, because copying them takes as long as computing a few. The blend
    that starts to write removes them from the kept ones first, so no other blend can take them.

    Args:
        task: of a request on the same context.
        kept: rows of all layers.

    Attributes:
        kept: the same rows.
    """

    def __init__(self, task: BlendTask, kept: KeptRows) -> None:
        self.plan = open_inexact(task.plan, kept.exact, task.ratio)
        self.start = task.start
        self.computed = kept.computed
        self.exact_from_first = kept.exact
        self.cold_from_first = torch.zeros(task.plan.num_tokens, dtype=torch.bool)
        self.cold = self.cold_from_first[task.start :]
        self.unreadable: tuple[str, ...] = ()
        self.kept = kept

    @property
    def is_known_before_start(self) -> bool:
        # The rows before `start` in the engine's pages were topped up already: they may differ from these.
        return self.start == 0

    def ready(self, layer: int, clock: StageClock) -> Generator[None, None, None]:
        """Yields nothing: all layers are in memory."""
        yield from ()

    def covered(self) -> torch.Tensor:
        """All context positions: int64 [N]."""
        return torch.arange(self.plan.num_tokens)

    def at_layer(self, layer: int, first: int | None = None) -> Rows:
        """Keys and values [N - first, H, D]: views, so that writing to them changes the kept rows."""
        first = self.start if first is None else first
        keys, values = self.kept.layers[layer]
        return keys[first:], values[first:]

    def covered_at_layer(self, layer: int, room: int = 0) -> Rows:
        """Copies of keys and values, with empty rows behind them: [N + room, H, D]."""
        keys, values = self.kept.layers[layer]
        return _with_room(keys, room), _with_room(values, room)


def _with_room(rows: torch.Tensor, room: int) -> torch.Tensor:
    return torch.cat([rows, rows.new_empty(room, *rows.shape[1:])])
