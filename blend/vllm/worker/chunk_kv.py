"""The KV of chunks from the engine's own layers: several chunks behind one prefix in one call."""

from collections.abc import Generator, Sequence

import torch

from blend.chunks.chunk import ChunkKV, ChunkRecord
from blend.vllm.layers.layers import LayerRunner, Prepared, Stream
from blend.vllm.layers.ranks import Ranks
from blend.vllm.layers.rows import beginning_of, piece_of_rows, rows_behind

LayerKV = tuple[torch.Tensor, torch.Tensor]
"""Keys and values [S, H, D] of one layer: this rank's heads, on the device."""


def compute_chunks(
    records: Sequence[ChunkRecord], prefix: ChunkKV | None, runner: LayerRunner, ranks: Ranks
) -> list[ChunkKV]:
    """KV of chunks behind one prefix, in one go; see `computing_chunks`."""
    return finish(computing_chunks(records, prefix, runner, ranks))


def finish(steps: Generator[None, None, list[ChunkKV]]) -> list[ChunkKV]:
    """Run all steps and return their result."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            chunks: list[ChunkKV] = done.value
            return chunks


def computing_chunks(
    records: Sequence[ChunkRecord],
    prefix: ChunkKV | None,
    runner: LayerRunner,
    ranks: Ranks,
    piece_tokens: int | None = None,
) -> Generator[None, None, list[ChunkKV]]:
    """KV of chunks behind one prefix, each computed without the others.

    Each chunk is a sequence of its own. The prefix's rows are put before all of them, layer by layer, so the
    prefix is not computed again, and its rows are not part of the result. The generator yields after each
    layer, or piece of a layer; the engine may run its own steps then, because its pages are in place.

    Args:
        records: the chunks; all have `prefix.record.token_ids` as prefix ids.
        prefix: the prefix's own KV, all heads or this rank's; None for an empty prefix.
        piece_tokens: maximum number of tokens per layer call; None: all in one.

    Returns:
        One ChunkKV per record, on the CPU, all heads (on every rank).
    """
    start = prefix.record.num_tokens if prefix else 0
    lengths = [record.num_tokens for record in records]
    rows, table = rows_behind(start, lengths, runner.block_size)
    beginning = beginning_of(start, table, runner.block_size)
    step = piece_tokens or rows.num_tokens
    cuts = [slice(a, min(a + step, rows.num_tokens)) for a in range(0, rows.num_tokens, step)]
    pieces = [(cut, runner.prepare(rows if len(cuts) == 1 else piece_of_rows(rows, cut))) for cut in cuts]
    stream = runner.embed([token for record in records for token in record.token_ids])
    pages = runner.new_pages(int(table.max()) + 1)
    shape = (ranks.total_kv_heads, runner.head_size)
    chunks = [torch.empty(2, runner.num_layers, length, *shape, dtype=runner.dtype) for length in lengths]
    for layer in range(runner.num_layers):
        if prefix is not None:
            with runner.in_pages(pages):
                _write_prefix(prefix, layer, runner, ranks, *beginning)
        parts: list[Stream] = []
        for cut, prepared in pieces:
            with runner.in_pages(pages):
                part, layer_kv = _run(layer, prepared, stream.at(cut), runner)
            parts.append(part)
            _copy_piece(chunks, layer, [ranks.all_heads(rows) for rows in layer_kv], cut)
            yield
        stream = Stream.join(parts)
    return [ChunkKV(record, *rows) for record, rows in zip(records, chunks, strict=True)]


def _run(layer: int, prepared: Prepared, stream: Stream, runner: LayerRunner) -> tuple[Stream, LayerKV]:
    """Run a layer over some rows; of the last layer only keys and values are computed, and the stream
    stays."""
    if layer == runner.num_layers - 1:
        return stream, runner.project(layer, prepared.rows.positions, stream)
    with runner.watch(layer) as seen:
        stream = runner.run(layer, prepared, stream)
    return stream, seen[0]


def _copy_piece(
    chunks: Sequence[torch.Tensor], layer: int, layer_kv: Sequence[torch.Tensor], piece: slice
) -> None:
    """Copy a layer's keys and values of a piece of all rows into the chunks they belong to.

    ::

        rows     0            begin            end                  the chunks' rows, one after another
        chunk                 |----- chunk -----|
        piece          |-- piece --|                                copied: where both overlap

    Args:
        chunks: [2, L, T, H, D] each, on the CPU.
        layer_kv: keys and values [S, H, D] of the piece.
    """
    # Copied straight into what is stored: a view would keep the layer's whole projection in memory.
    keys, values = (rows.to("cpu") for rows in layer_kv)
    begin = 0
    for chunk in chunks:
        end = begin + chunk.shape[2]
        first, last = max(begin, piece.start), min(end, piece.stop)
        if first < last:
            target = slice(first - begin, last - begin)
            source = slice(first - piece.start, last - piece.start)
            chunk[0, layer, target], chunk[1, layer, target] = keys[source], values[source]
        begin = end


def _write_prefix(
    prefix: ChunkKV, layer: int, runner: LayerRunner, ranks: Ranks, rows: torch.Tensor, slots: torch.Tensor
) -> None:
    """Write a layer of the prefix to the pages: its rows `rows`, int64 [W], at `slots`."""
    heads = (ranks.own_heads(t, runner.num_kv_heads)[layer] for t in (prefix.keys, prefix.values))
    keys, values = (t[rows].to(runner.device, runner.dtype) for t in heads)
    runner.write(layer, keys, values, slots.to(runner.device))
