"""Recomputes the selected rows of a context, one layer at a time, and writes all its rows to the pages.

Two forms give the same result up to the order of sums. `PagedRows` writes the cached rows to the engine's
pages and uses the engine's own attention kernel: always possible, whatever the attention. `DenseRows` attends
to the rows in memory and writes each row once.
"""

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from blend.report.stats import StageClock
from blend.vllm.job.context import Context, KeptRows
from blend.vllm.job.dense import DenseAttention, mask_bytes
from blend.vllm.layers.layers import LayerRunner, Prepared, Stream
from blend.vllm.layers.rows import pieces_of, rows_of_one, slots_of

SLICE_ROWS = 256
"""Rows of a layer that are computed without a pause: half of what the default ratio selects of 3,000 tokens.
Fewer rows would let other requests run sooner, and would read a layer's weights more often."""

MAX_MASK_BYTES = 256 << 20
"""Cap, per blend, on the masks of dense attention; above it the pages are used, which need no masks."""


class Recompute(Protocol):
    """The selected rows of one blend; runs one layer after the other, then is thrown away.

    Attributes:
        kept: the context's rows, complete after `finish`; None where only the pages hold them.
    """

    kept: KeptRows | None

    def run(self, layer: int, stream: Stream, clock: StageClock) -> Generator[None, None, Stream]:
        """Run a layer: afterwards its pages hold all rows, the selected ones fresh. May yield in between.

        Returns:
            The stream behind the layer.
        """

    def finish(self, layer: int, stream: Stream, clock: StageClock) -> None:
        """Run the last layer: only its keys and values are computed, since its output is not used."""


def make_recompute(
    context: Context, selected: torch.Tensor, blocks: torch.Tensor, runner: LayerRunner, *, keeps: bool
) -> Recompute:
    """The faster form that is possible for these rows.

    Args:
        selected: int64 [S], context positions, ascending, on the CPU.
        blocks: int32 [B], the request's kernel blocks, on the CPU.
        keeps: whether the rows are kept for later blends.
    """
    if (
        runner.attends_densely
        and len(selected)
        and context.is_known_before_start
        and mask_bytes(selected, runner.dtype) <= MAX_MASK_BYTES
    ):
        return DenseRows(context, selected, blocks, runner, keeps=keeps)
    return PagedRows(context, selected, blocks, runner)


class Pieces:
    """Chosen positions of one request, cut into pieces of the size that the engine was built for.

    Args:
        positions: int64 [S], ascending, on the CPU.
        blocks: int32 [B], the request's kernel blocks, on the CPU.
    """

    def __init__(self, positions: torch.Tensor, blocks: torch.Tensor, runner: LayerRunner) -> None:
        self._runner = runner
        cuts = pieces_of(positions, runner.max_piece_tokens, runner.max_piece_runs)
        self._pieces: list[tuple[slice, Prepared]] = [
            (cut, runner.prepare(rows_of_one(positions[cut], blocks, runner.block_size))) for cut in cuts
        ]

    def run(self, layer: int, stream: Stream, clock: StageClock, stage: str) -> Generator[None, None, Stream]:
        """Run one layer over all rows; yields between pieces."""
        parts: list[Stream] = []
        for cut, prepared in self._pieces:
            if parts:
                yield
            with clock.time(stage):
                parts.append(self._runner.run(layer, prepared, stream.at(cut)))
        return Stream.join(parts)

    def project(self, layer: int, stream: Stream) -> tuple[torch.Tensor, torch.Tensor]:
        """Only the keys and values [S, H, D] of a layer; writes nothing, leaves the stream unchanged."""
        pairs = [
            self._runner.project(layer, prepared.rows.positions, stream.at(cut))
            for cut, prepared in self._pieces
        ]
        return torch.cat([keys for keys, _ in pairs]), torch.cat([values for _, values in pairs])


class PagedRows:
    """Recomputes with the engine's own attention kernel, on its pages."""

    def __init__(
        self, context: Context, selected: torch.Tensor, blocks: torch.Tensor, runner: LayerRunner
    ) -> None:
        self._context, self._runner = context, runner
        self.kept: KeptRows | None = None
        slots = _slots_from_start(context, blocks, runner)
        self._slots = slots.to(runner.device)
        self._selected_slots = slots[selected - context.start].to(runner.device)
        self._pieces = Pieces(selected, blocks, runner) if len(selected) else None

    def run(self, layer: int, stream: Stream, clock: StageClock) -> Generator[None, None, Stream]:
        self._write(layer, clock)
        if self._pieces is not None:
            stream = yield from self._pieces.run(layer, stream, clock, "recompute")
        return stream

    def finish(self, layer: int, stream: Stream, clock: StageClock) -> None:
        self._write(layer, clock)
        if self._pieces is not None:
            with clock.time("recompute"):
                self._runner.write(layer, *self._pieces.project(layer, stream), self._selected_slots)

    def _write(self, layer: int, clock: StageClock) -> None:
        with clock.time("realign"):
            keys, values = self._context.at_layer(layer)
        with clock.time("write"):
            self._runner.write(layer, keys, values, self._slots)


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


class DenseRows:
    """Recomputes over rows in memory; needs all rows there, see `Context.is_known_before_start`.

    A layer's rows run in slices. A row sees only rows before it, so slices that run one after another give
    the same result as one pass.
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
        self._slots = _slots_from_start(context, blocks, runner).to(runner.device)
        index = selected.to(runner.device)
        self._index = index
        self._slices = [
            _Slice(slice(at, at + SLICE_ROWS), selected[at : at + SLICE_ROWS], index[at : at + SLICE_ROWS])
            for at in range(0, len(selected), SLICE_ROWS)
        ]

    def run(self, layer: int, stream: Stream, clock: StageClock) -> Generator[None, None, Stream]:
        with clock.time("realign"):
            keys, values = self._context.at_layer(layer, first=0)
        parts: list[Stream] = []
        for piece in self._slices:
            if parts:
                yield
            with clock.time("recompute"):
                parts.append(self._run_slice(layer, piece, stream.at(piece.rows), keys, values))
        self._write(layer, keys, values, clock)
        return Stream.join(parts)

    def _run_slice(
        self, layer: int, piece: _Slice, stream: Stream, keys: torch.Tensor, values: torch.Tensor
    ) -> Stream:
        """Run a layer over some rows; their fresh keys and values replace the cached ones."""
        runner = self._runner
        attention, scale = piece.attention(runner.window(layer), keys), runner.attentions[layer].impl.scale

        def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any) -> torch.Tensor:
            shape = (len(piece.index), -1, runner.head_size)
            keys.index_copy_(0, piece.index, key.reshape(shape))
            values.index_copy_(0, piece.index, value.reshape(shape))
            return attention(query.reshape(shape), keys, values, scale).flatten(1)  # [S, Hq * D]

        return runner.run_attending(layer, piece.index, stream, attend)

    def finish(self, layer: int, stream: Stream, clock: StageClock) -> None:
        with clock.time("realign"):
            keys, values = self._context.at_layer(layer, first=0)
        with clock.time("recompute"):
            fresh_rows = self._runner.project(layer, self._index, stream)
            for rows, fresh in zip((keys, values), fresh_rows, strict=True):
                rows.index_copy_(0, self._index, fresh)
        self._write(layer, keys, values, clock)

    def _write(self, layer: int, keys: torch.Tensor, values: torch.Tensor, clock: StageClock) -> None:
        start = self._context.start
        if self.kept is not None:
            self.kept.layers.append((keys, values))
        with clock.time("write"):
            self._runner.write(layer, keys[start:], values[start:], self._slots)


def _slots_from_start(context: Context, blocks: torch.Tensor, runner: LayerRunner) -> torch.Tensor:
    """Slots of all rows from the context's start on."""
    everything = torch.arange(context.start, context.plan.num_tokens)
    return slots_of(everything, blocks, runner.block_size)
