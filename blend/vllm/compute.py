"""Computing the KV of chunks through the engine's own layers, several chunks in one call."""

from collections.abc import Generator, Sequence

import torch

from blend.chunk import ChunkKV, ChunkRecord
from blend.vllm.layers import LayerRunner, Prepared, Stream
from blend.vllm.ranks import Ranks
from blend.vllm.rows import piece_of_rows, rows_of_many, slots_of

Given = tuple[torch.Tensor, torch.Tensor]
"""Keys and values [S, H, D] that a layer's attention got: of all heads, on the CPU."""


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

    Every chunk is a sequence of its own; the prefix's rows are put before each, layer by layer, so the
    prefix is never computed twice and its rows are not part of the result. It yields after each layer, or
    piece of one: the engine may run its own steps then, whose pages are in their place.

    Args:
        records: the chunks; all have `prefix.record.token_ids` as prefix ids.
        prefix: the prefix's own KV, all heads; None for an empty prefix.
        piece_tokens: most tokens that are run through a layer at once; None: all together.

    Returns:
        One ChunkKV per record, on the CPU, all heads (on every rank).
    """
    start = prefix.record.num_tokens if prefix else 0
    lengths = [record.num_tokens for record in records]
    rows, table = rows_of_many([start] * len(records), lengths, runner.block_size)
    prefix_slots = torch.cat([slots_of(torch.arange(start), row, runner.block_size) for row in table])
    step = piece_tokens or rows.num_tokens
    cuts = [slice(a, min(a + step, rows.num_tokens)) for a in range(0, rows.num_tokens, step)]
    pieces = [(cut, runner.prepare(rows if len(cuts) == 1 else piece_of_rows(rows, cut))) for cut in cuts]
    stream = runner.embed([token for record in records for token in record.token_ids])
    pages = runner.new_pages(int(table.max()) + 1)
    seen: list[Given] = []
    for layer in range(runner.num_layers):
        if prefix is not None:
            with runner.in_pages(pages):
                _write_prefix(prefix, layer, runner, ranks, prefix_slots, len(records))
        parts: list[tuple[Stream, Given]] = []
        for cut, prepared in pieces:
            with runner.in_pages(pages):
                parts.append(_run(layer, prepared, stream.at(cut), runner, ranks))
            yield
        stream = Stream.join([part for part, _ in parts])
        seen.append((torch.cat([k for _, (k, _) in parts]), torch.cat([v for _, (_, v) in parts])))
    keys, values = (torch.stack(rows) for rows in zip(*seen, strict=True))  # [L, all T, H, D]
    split = zip(records, torch.split(keys, lengths, 1), torch.split(values, lengths, 1), strict=True)
    return [ChunkKV(record, k.contiguous(), v.contiguous()) for record, k, v in split]


def _run(
    layer: int, prepared: Prepared, stream: Stream, runner: LayerRunner, ranks: Ranks
) -> tuple[Stream, Given]:
    """One layer over some rows; of the last one only keys and values are wanted, and the stream stays."""
    if layer == runner.num_layers - 1:
        given = [runner.project(layer, prepared.rows.positions, stream)]
    else:
        with runner.watch(layer) as given:
            stream = runner.run(layer, prepared, stream)
    # Copied off at once: a view would keep the layer's whole projection alive on the device.
    keys, values = (ranks.all_heads(rows).to("cpu", copy=True) for rows in given[0])
    return stream, (keys, values)


def _write_prefix(
    prefix: ChunkKV, layer: int, runner: LayerRunner, ranks: Ranks, slots: torch.Tensor, copies: int
) -> None:
    own = (ranks.own_heads(t, runner.num_kv_heads)[layer] for t in (prefix.keys, prefix.values))
    keys, values = (t.to(runner.device, runner.dtype).repeat(copies, 1, 1) for t in own)
    runner.write(layer, keys, values, slots.to(runner.device))
