"""One layer of recomputing: cached rows into the pages, the selected ones computed afresh.

Two forms give the same up to the order of sums. `PagedRows` puts the cached rows into the engine's pages and
lets its kernel attend there: always possible, whatever the attention. `DenseRows` attends to the rows at hand
and writes each row once.
"""

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from blend.vllm.layers.context import Context
from blend.vllm.layers.dense import DenseAttention, mask_bytes
from blend.vllm.layers.layers import LayerRunner, Stream
from blend.vllm.layers.pieces import Pieces
from blend.vllm.layers.rows import slots_of
from blend.vllm.worker.clock import Clock
from blend.vllm.worker.kept import KeptRows

SLICE_ROWS = 256
"""Rows of a layer that are computed without looking up: half of what the default ratio asks of 3,000 tokens.
Fewer would let others in sooner, and read a layer's weights more often."""

MAX_MASK_BYTES = 256 << 20
"""Of a blend's dense attention; a larger one goes through the pages, where masks need no memory."""


class Recomputing(Protocol):
    """Selected rows of one blend; used for one layer after the other, then thrown away.

    Attributes:
        kept: the context's rows, whole after `finish`; None where they are in the pages only.
    """

    kept: KeptRows | None

    def run(self, layer: int, stream: Stream, clock: Clock) -> Generator[None, None, Stream]:
        """A layer: the context's rows come to lie in its pages, the selected ones fresh; may yield within.

        Returns:
            The stream behind the layer.
        """

    def finish(self, layer: int, stream: Stream, clock: Clock) -> None:
        """The last layer, whose hidden states of context tokens nobody reads: its rows are all."""


def recomputing(
    context: Context, selected: torch.Tensor, blocks: torch.Tensor, runner: LayerRunner, *, keeps: bool
) -> Recomputing:
    """The faster form that is possible for these rows.

    Args:
        selected: int64 [S], context positions, ascending, on the CPU.
        blocks: int32 [B], the request's kernel blocks, on the CPU.
        keeps: whether the rows are wanted afterwards.
    """
    if (
        runner.attends_densely
        and len(selected)
        and context.is_known_before_start
        and mask_bytes(selected, runner.dtype) <= MAX_MASK_BYTES
    ):
        return DenseRows(context, selected, blocks, runner, keeps=keeps)
    return PagedRows(context, selected, blocks, runner)


@dataclass(slots=True)
class _Slice:
    """Some of the selected rows.

    Attributes:
        rows: which of the selected ones.
        positions: int64 [S], on the CPU.
        index: the same, on the device.
        attentions: by window, made when first needed.
    """

    rows: slice
    positions: torch.Tensor
    index: torch.Tensor
    attentions: dict[int | None, DenseAttention] = field(default_factory=dict)

    def attention(self, window: int | None, like: torch.Tensor) -> DenseAttention:
        """Their attention, the same for all layers of one window."""
        if window not in self.attentions:
            self.attentions[window] = DenseAttention(self.positions, like, window)
        return self.attentions[window]


class PagedRows:
    """Through the engine's own attention kernel, on its pages."""

    def __init__(
        self, context: Context, selected: torch.Tensor, blocks: torch.Tensor, runner: LayerRunner
    ) -> None:
        self._context, self._runner = context, runner
        self.kept: KeptRows | None = None
        slots = _own_slots(context, blocks, runner)
        self._slots = slots.to(runner.device)
        self._own_slots = slots[selected - context.start].to(runner.device)
        self._pieces = Pieces(selected, blocks, runner) if len(selected) else None

    def run(self, layer: int, stream: Stream, clock: Clock) -> Generator[None, None, Stream]:
        self._write(layer, clock)
        if self._pieces is not None:
            stream = yield from self._pieces.run(layer, stream, clock, "recompute")
        return stream

    def finish(self, layer: int, stream: Stream, clock: Clock) -> None:
        self._write(layer, clock)
        if self._pieces is not None:
            with clock.time("recompute"):
                self._runner.write(layer, *self._pieces.project(layer, stream), self._own_slots)

    def _write(self, layer: int, clock: Clock) -> None:
        with clock.time("realign"):
            keys, values = self._context.at_layer(layer)
        with clock.time("write"):
            self._runner.write(layer, keys, values, self._slots)


class DenseRows:
    """Over rows at hand; only where all rows are, see `Context.is_known_before_start`.

    A layer's rows run in slices: a row sees only rows before it, so that slices one after another give what
    they give together.
    """

    def __init__(
        self,
        context: Context,
        selected: torch.Tensor,
        blocks: torch.Tensor,
        runner: LayerRunner,
        *,
        keeps: bool,
    ) -> None:
        self._context, self._runner = context, runner
        computed = context.computed.index_fill(0, selected, True)
        self.kept = KeptRows(computed, context.exact_from_first) if keeps else None
        self._slots = _own_slots(context, blocks, runner).to(runner.device)
        index = selected.to(runner.device)
        self._index = index
        self._slices = [
            _Slice(slice(at, at + SLICE_ROWS), selected[at : at + SLICE_ROWS], index[at : at + SLICE_ROWS])
            for at in range(0, len(selected), SLICE_ROWS)
        ]

    def run(self, layer: int, stream: Stream, clock: Clock) -> Generator[None, None, Stream]:
        with clock.time("realign"):
            keys, values = self._context.at_layer(layer, first=0)
        parts: list[Stream] = []
        for one in self._slices:
            if parts:
                yield
            with clock.time("recompute"):
                parts.append(self._run_slice(layer, one, stream.at(one.rows), keys, values))
        self._write(layer, keys, values, clock)
        return Stream.join(parts)

    def _run_slice(
        self, layer: int, one: "_Slice", stream: Stream, keys: torch.Tensor, values: torch.Tensor
    ) -> Stream:
        """A layer over some rows; their fresh keys and values take their places among the others."""
        runner = self._runner
        attention, scale = one.attention(runner.window(layer), keys), runner.attentions[layer].impl.scale

        def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any) -> torch.Tensor:
            shape = (len(one.index), -1, runner.head_size)
            keys.index_copy_(0, one.index, key.reshape(shape))
            values.index_copy_(0, one.index, value.reshape(shape))
            return attention(query.reshape(shape), keys, values, scale).flatten(1)  # [S, Hq * D]

        return runner.run_attending(layer, one.index, stream, attend)

    def finish(self, layer: int, stream: Stream, clock: Clock) -> None:
        with clock.time("realign"):
            keys, values = self._context.at_layer(layer, first=0)
        with clock.time("recompute"):
            fresh = self._runner.project(layer, self._index, stream)
            for rows, own in zip((keys, values), fresh, strict=True):
                rows.index_copy_(0, self._index, own)
        self._write(layer, keys, values, clock)

    def _write(self, layer: int, keys: torch.Tensor, values: torch.Tensor, clock: Clock) -> None:
        start = self._context.start
        if self.kept is not None:
            self.kept.layers.append((keys, values))
        with clock.time("write"):
            self._runner.write(layer, keys[start:], values[start:], self._slots)


def _own_slots(context: Context, blocks: torch.Tensor, runner: LayerRunner) -> torch.Tensor:
    everything = torch.arange(context.start, context.plan.num_tokens)
    return slots_of(everything, blocks, runner.block_size)
