"""Computing the KV of chunks through the engine's own layers, several chunks in one call."""

from collections.abc import Sequence

import torch

from blend.chunk import ChunkKV, ChunkRecord
from blend.vllm.layers import LayerRunner
from blend.vllm.ranks import Ranks
from blend.vllm.rows import rows_of_many, slots_of


def compute_chunks(
    records: Sequence[ChunkRecord], prefix: ChunkKV | None, runner: LayerRunner, ranks: Ranks
) -> list[ChunkKV]:
    """KV of chunks that all stand behind one prefix, each computed without the others.

    Every chunk is a sequence of its own; the prefix's rows are put before each, layer by layer, so the
    prefix is never computed twice and its rows are not part of the result.

    Args:
        records: the chunks; all have `prefix.record.token_ids` as prefix ids.
        prefix: the prefix's own KV, all heads; None for an empty prefix.

    Returns:
        One ChunkKV per record, on the CPU, all heads (on every rank).
    """
    start = prefix.record.num_tokens if prefix else 0
    lengths = [record.num_tokens for record in records]
    rows, table = rows_of_many([start] * len(records), lengths, runner.block_size)
    prefix_slots = torch.cat([slots_of(torch.arange(start), row, runner.block_size) for row in table])
    prepared = runner.prepare(rows)
    stream = runner.embed([token for record in records for token in record.token_ids])
    seen: list[list[torch.Tensor]] = []
    with runner.scratch_pages(int(table.max()) + 1):
        for layer in range(runner.num_layers):
            if prefix is not None:
                _write_prefix(prefix, layer, runner, ranks, prefix_slots, len(records))
            if layer == runner.num_layers - 1:
                given = [runner.project(layer, prepared.rows.positions, stream)]
            else:
                with runner.watch(layer) as given:
                    stream = runner.run(layer, prepared, stream)
            # Copied off at once: a view would keep the layer's whole projection alive on the device.
            seen.append([ranks.all_heads(rows).to("cpu", copy=True) for rows in given[0]])
    keys, values = (torch.stack(rows) for rows in zip(*seen, strict=True))  # [L, all T, H, D]
    parts = zip(records, torch.split(keys, lengths, 1), torch.split(values, lengths, 1), strict=True)
    return [ChunkKV(record, k.contiguous(), v.contiguous()) for record, k, v in parts]


def _write_prefix(
    prefix: ChunkKV, layer: int, runner: LayerRunner, ranks: Ranks, slots: torch.Tensor, copies: int
) -> None:
    own = (ranks.own_heads(t, runner.num_kv_heads)[layer] for t in (prefix.keys, prefix.values))
    keys, values = (t.to(runner.device, runner.dtype).repeat(copies, 1, 1) for t in own)
    runner.write(layer, keys, values, slots.to(runner.device))
