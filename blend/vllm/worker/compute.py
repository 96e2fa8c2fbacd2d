"""Computing the KV of chunks through the engine's own layers, several chunks in one call."""

from collections.abc import Generator, Sequence

import torch

from blend.chunks.chunk import ChunkKV, ChunkRecord
from blend.vllm.layers.layers import LayerRunner, Prepared, Stream
from blend.vllm.layers.ranks import Ranks
from blend.vllm.layers.rows import beginning_of, piece_of_rows, rows_behind

Given = tuple[torch.Tensor, torch.Tensor]
"""Keys and values [S, H, D] that a layer's attention got: of this rank's heads, on the device."""


def compute_chunks(
    records: Sequence[ChunkRecord], prefix: ChunkKV | None, runner: LayerRunner, ranks: Ranks
) -> list[ChunkKV]:
    """KV of chunks that all stand behind one prefix, in one go; see `computing_chunks`."""
    return finish(computing_chunks(records, prefix, runner, ranks))


def finish(steps: Generator[None, None, list[ChunkKV]]) -> list[ChunkKV]:
    """Take all steps; returns what they come to."""
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
    """KV of chunks that all stand behind one prefix, each computed without the others.

    Every chunk is a sequence of its own; the prefix's rows are put before all of them, layer by layer, so the
    prefix is never computed twice and its rows are not part of the result. It yields after each layer, or
    piece of one: the engine may run its own steps then, whose pages are in their place.

    Args:
        records: the chunks; all have `prefix.record.token_ids` as prefix ids.
        prefix: the prefix's own KV, all heads or this rank's; None for an empty prefix.
        piece_tokens: most tokens that are run through a layer at once; None: all together.

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
    kept = [torch.empty(2, runner.num_layers, length, *shape, dtype=runner.dtype) for length in lengths]
    for layer in range(runner.num_layers):
        if prefix is not None:
            with runner.in_pages(pages):
                _write_prefix(prefix, layer, runner, ranks, *beginning)
        parts: list[Stream] = []
        for cut, prepared in pieces:
            with runner.in_pages(pages):
                part, given = _run(layer, prepared, stream.at(cut), runner)
            parts.append(part)
            _keep(kept, layer, [ranks.all_heads(rows) for rows in given], cut)
            yield
        stream = Stream.join(parts)
    return [ChunkKV(record, *rows) for record, rows in zip(records, kept, strict=True)]


def _run(layer: int, prepared: Prepared, stream: Stream, runner: LayerRunner) -> tuple[Stream, Given]:
    """One layer over some rows; of the last one only keys and values are wanted, and the stream stays."""
    if layer == runner.num_layers - 1:
        return stream, runner.project(layer, prepared.rows.positions, stream)
    with runner.watch(layer) as given:
        stream = runner.run(layer, prepared, stream)
    return stream, given[0]


def _keep(kept: Sequence[torch.Tensor], layer: int, given: Sequence[torch.Tensor], piece: slice) -> None:
    """Put a layer's keys and values of a piece of all rows where they belong.

    Args:
        kept: [2, L, T, H, D] of each chunk, on the CPU; their rows one after another are all rows.
        given: keys and values [S, H, D] of the piece.
    """
    # One copy, straight into what is stored: a view would keep the layer's whole projection alive.
    keys, values = (rows.to("cpu") for rows in given)
    begin = 0
    for chunk in kept:
        end = begin + chunk.shape[2]
        first, last = max(begin, piece.start), min(end, piece.stop)
        if first < last:
            own, theirs = slice(first - begin, last - begin), slice(first - piece.start, last - piece.start)
            chunk[0, layer, own], chunk[1, layer, own] = keys[theirs], values[theirs]
        begin = end


def _write_prefix(
    prefix: ChunkKV, layer: int, runner: LayerRunner, ranks: Ranks, rows: torch.Tensor, slots: torch.Tensor
) -> None:
    """Put a layer of the prefix into the pages: `rows` of it, int64 [W], at `slots`."""
    own = (ranks.own_heads(t, runner.num_kv_heads)[layer] for t in (prefix.keys, prefix.values))
    keys, values = (t[rows].to(runner.device, runner.dtype) for t in own)
    runner.write(layer, keys, values, slots.to(runner.device))
