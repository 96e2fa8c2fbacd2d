"""Chosen rows of one request, cut into pieces that the engine was made for."""

from collections.abc import Generator

import torch

from blend.vllm.layers.layers import LayerRunner, Prepared, Stream
from blend.vllm.layers.rows import pieces_of, rows_of_one
from blend.vllm.worker.clock import Clock


class Pieces:
    """Chosen positions of one request, in pieces that the engine was made for, run through its layers."""

    def __init__(self, positions: torch.Tensor, blocks: torch.Tensor, runner: LayerRunner) -> None:
        self._runner = runner
        cuts = pieces_of(positions, runner.max_piece_tokens, runner.max_piece_runs)
        rows = [rows_of_one(positions[cut], blocks, runner.block_size) for cut in cuts]
        self._pieces: list[tuple[slice, Prepared]] = [
            (cut, runner.prepare(one)) for cut, one in zip(cuts, rows, strict=True)
        ]

    def run(self, layer: int, stream: Stream, clock: Clock, stage: str) -> Generator[None, None, Stream]:
        """One layer over all rows; yields between pieces."""
        parts: list[Stream] = []
        for cut, prepared in self._pieces:
            if parts:
                yield
            with clock.time(stage):
                parts.append(self._runner.run(layer, prepared, stream.at(cut)))
        return Stream.join(parts)

    def project(self, layer: int, stream: Stream) -> tuple[torch.Tensor, torch.Tensor]:
        """Only the keys and values [S, H, D] of a layer; nothing is written, the stream stays."""
        pairs = [
            self._runner.project(layer, prepared.rows.positions, stream.at(cut))
            for cut, prepared in self._pieces
        ]
        return torch.cat([keys for keys, _ in pairs]), torch.cat([values for _, values in pairs])
