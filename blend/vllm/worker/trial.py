"""Checks whether the model's layers can be blended, and measures how fast they are, when a worker starts."""

import logging
import time
from collections.abc import Callable

import torch

from blend.chunks.chunk import ChunkKV, make_record
from blend.maths.rope import realign, rotation
from blend.vllm.job.dense import DenseAttention
from blend.vllm.job.recompute import SLICE_ROWS
from blend.vllm.layers.layers import LayerRunner
from blend.vllm.layers.ranks import Ranks
from blend.vllm.layers.rows import rows_of_one
from blend.vllm.messages import Rates
from blend.vllm.worker.chunk_kv import compute_chunks

logger = logging.getLogger(__name__)

CHECK_TOKENS = 24
CHECK_DISTANCE = 17
CHECK_TOLERANCE = 0.03
"""Relative error; bfloat16, the coarsest dtype, stays under 0.01, and a wrong layer is off by about one."""

TRIAL_POSITIONS = 2048
RUN_TOKENS, RUN_EVERY = 2, 16
"""Late attention selects runs of one to three tokens at the usual ratios; this is an eighth of the
context."""
NUM_ROUNDS = 3
FEW_ROWS, MANY_ROWS = 16, 256


def check_layers(runner: LayerRunner, ranks: Ranks, vocab_size: int) -> str | None:
    """Why the model's chunk KV cannot be used, or None; computes a few short chunks and stores nothing."""
    return _check_rotary(runner, ranks, vocab_size) or _check_causal(runner, ranks, vocab_size)


def _check_rotary(runner: LayerRunner, ranks: Ranks, vocab_size: int) -> str | None:
    """Layer 0's keys depend on token and position alone: realigned, they equal those of the other
    position."""
    prefix, ids = _random_ids(CHECK_DISTANCE, 1, vocab_size), _random_ids(CHECK_TOKENS, 2, vocab_size)
    near, before = _compute([ids, prefix], None, runner, ranks)
    (far,) = _compute([ids], before, runner, ranks)
    moved_by = rotation(runner.rotary_table.cpu(), CHECK_DISTANCE)
    moved = realign(near.keys[0], moved_by, runner.rotary_interleaved)
    error = _relative_error(moved, far.keys[0])
    if error < CHECK_TOLERANCE:
        return None
    return (
        f"its keys do not turn as its rotary table says (relative error {error:.2g} after {CHECK_DISTANCE} "
        f"positions, expected under {CHECK_TOLERANCE}): chunks cannot be realigned"
    )


def _check_causal(runner: LayerRunner, ranks: Ranks, vocab_size: int) -> str | None:
    """A token's keys and values do not change when a later token does."""
    ids, others = _random_ids(CHECK_TOKENS, 2, vocab_size), _random_ids(CHECK_TOKENS, 3, vocab_size)
    half = CHECK_TOKENS // 2
    first, second = _compute([ids, ids[:half] + others[half:]], None, runner, ranks)
    error = max(
        _relative_error(a[:, :half], b[:, :half])
        for a, b in ((first.keys, second.keys), (first.values, second.values))
    )
    if error < CHECK_TOLERANCE:
        return None
    return (
        f"its tokens see later ones (their keys and values change by {error:.2g} when a later token does, "
        f"expected under {CHECK_TOLERANCE}): its attention mask looks ahead"
    )


def _compute(
    batch: list[tuple[int, ...]], prefix: ChunkKV | None, runner: LayerRunner, ranks: Ranks
) -> list[ChunkKV]:
    prefix_ids = prefix.record.token_ids if prefix else ()
    records = [make_record("check", prefix_ids, ids) for ids in batch]
    return compute_chunks(records, prefix, runner, ranks)


def _random_ids(num: int, seed: int, vocab_size: int) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(vocab_size, (num,), generator=generator).tolist())


def _relative_error(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got.float() - expected.float()).norm() / expected.float().norm())


def dense_is_faster(runner: LayerRunner) -> bool:
    """Whether `DenseAttention` gives what layer 0's own attention gives, in less time.

    Where a model's attention does more than mask, scale and mix (sinks, capped scores, quantised pages), the
    outputs differ, and the answer is False.
    """
    positions = torch.arange(TRIAL_POSITIONS)
    positions = positions[positions % RUN_EVERY < RUN_TOKENS]
    blocks = torch.arange(-(-TRIAL_POSITIONS // runner.block_size), dtype=torch.int32)
    generator = torch.Generator().manual_seed(0)

    def random(num_rows: int, num_heads: int) -> torch.Tensor:
        rows = torch.randn(num_rows, num_heads, runner.head_size, generator=generator)
        return rows.to(runner.device, runner.dtype)

    queries = random(len(positions), runner.num_heads)
    keys, values = (random(TRIAL_POSITIONS, runner.num_kv_heads) for _ in range(2))
    index = positions.to(runner.device)
    attention = DenseAttention(positions, like=keys, window=runner.window(0))
    scale: float = runner.attentions[0].impl.scale
    with runner.in_pages(runner.new_pages(len(blocks))):
        prepared = runner.prepare(rows_of_one(positions, blocks, runner.block_size))
        slots = rows_of_one(torch.arange(TRIAL_POSITIONS), blocks, runner.block_size).slots
        runner.write(0, keys, values, slots.to(runner.device))
        flat = [rows.flatten(1) for rows in (queries, keys[index], values[index])]
        paged_ms, paged = _fastest(lambda: runner.attend(0, prepared, *flat))
        dense_ms, dense = _fastest(lambda: attention(queries, keys, values, scale).flatten(1))
    logger.info("attention of %d rows: paged %.2f ms, dense %.2f ms", len(positions), paged_ms, dense_ms)
    return dense_ms < paged_ms and _is_same(dense, paged)


def measure_rates(runner: LayerRunner, max_batched_tokens: int) -> Rates:
    """What a layer costs, measured with few rows and with many.

    Args:
        max_batched_tokens: of one pass of prefill.
    """
    few_s, many_s = (_layer_s(runner, num_rows) for num_rows in (FEW_ROWS, MANY_ROWS))
    # Not from the difference: one disturbed measurement would make rows look free, and no blend worth it.
    row_s = many_s / MANY_ROWS
    layer_s = max(0.0, few_s - FEW_ROWS * row_s)
    logger.info("a layer takes %.2f ms plus %.3f ms per row", layer_s * 1e3, row_s * 1e3)
    return Rates(runner.num_layers, layer_s, row_s, (max_batched_tokens, SLICE_ROWS))


def _layer_s(runner: LayerRunner, num_rows: int) -> float:
    """Seconds of a layer over consecutive rows, as full prefill runs them."""
    blocks = torch.arange(-(-num_rows // runner.block_size), dtype=torch.int32)
    stream = runner.embed([1] * num_rows)
    with runner.in_pages(runner.new_pages(len(blocks))):
        prepared = runner.prepare(rows_of_one(torch.arange(num_rows), blocks, runner.block_size))
        return _fastest(lambda: runner.run(0, prepared, stream.copy()).hidden)[0] / 1e3


def _fastest(run: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
    """Milliseconds of the fastest of some rounds after a warm-up round, and the last result."""
    result, fastest_ms = run(), float("inf")
    for _ in range(NUM_ROUNDS):
        _synchronize(result)
        begin = time.perf_counter()
        result = run()
        _synchronize(result)
        fastest_ms = min(fastest_ms, (time.perf_counter() - begin) * 1e3)
    return fastest_ms, result


def _synchronize(tensor: torch.Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)


def _is_same(dense: torch.Tensor, paged: torch.Tensor) -> bool:
    tolerance = 32 * torch.finfo(paged.dtype).eps
    error = (dense.float() - paged.float()).norm() / paged.float().norm()
    return bool(error <= tolerance)
