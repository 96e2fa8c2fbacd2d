"""Blends that a worker keeps in memory, to be topped up for other questions on the same context."""

from collections.abc import Generator
from dataclasses import dataclass, field

import torch

from blend.select.choose import open_inexact
from blend.vllm.messages import BlendTask
from blend.vllm.worker.clock import Clock


@dataclass(slots=True)
class KeptRows:
    """The rows of one blended context, filled layer by layer.

    Attributes:
        computed: bool [N], rows that were computed for this context.
        exact: bool [N], rows that were taken from the store and equal a full prefill's.
        layers: keys and values [N, H, D] of each layer, of this rank's heads.
    """

    computed: torch.Tensor
    exact: torch.Tensor
    layers: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)

    @property
    def num_bytes(self) -> int:
        return sum(keys.nbytes + values.nbytes for keys, values in self.layers)


class KeptContext:
    """A context whose rows are those of an earlier blend of it; implements `layers.context.Context`.

    They are topped up where they are, since copying them takes as long as computing a few: who begins to
    write takes them away from those who might begin next.

    Args:
        task: of a request on the same context.
        kept: whole.

    Attributes:
        kept: the same.
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
        # What lies before it in the engine's pages was topped up already.
        return self.start == 0

    def ready(self, layer: int, clock: Clock) -> Generator[None, None, None]:
        """Every layer is there."""
        yield from ()

    def covered(self) -> torch.Tensor:
        """All context positions: int64 [N]."""
        return torch.arange(self.plan.num_tokens)

    def at_layer(self, layer: int, first: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values [N - first, H, D]; what is written to them is written to what is kept."""
        first = self.start if first is None else first
        keys, values = self.kept.layers[layer]
        return keys[first:], values[first:]

    def covered_at_layer(self, layer: int, room: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Copies of keys and values, with room behind them: [N + room, H, D]."""
        keys, values = self.kept.layers[layer]
        return _with_room(keys, room), _with_room(values, room)


def _with_room(rows: torch.Tensor, room: int) -> torch.Tensor:
    return torch.cat([rows, rows.new_empty(room, *rows.shape[1:])])
