"""What is faster here, and how fast: tried out once per worker, never assumed."""

import logging
import time
from collections.abc import Callable

import torch

from blend.vllm.layers.dense import DenseAttention
from blend.vllm.layers.layers import LayerRunner
from blend.vllm.layers.recompute import SLICE_ROWS
from blend.vllm.layers.rows import rows_of_one
from blend.vllm.scheduler.controller import Rates

logger = logging.getLogger(__name__)

NUM_POSITIONS = 2048
RUN_TOKENS, RUN_EVERY = 2, 16
"""Late attention picks runs of one to three tokens at the usual ratios, an eighth of the context here."""
NUM_ROUNDS = 3
FEW_ROWS, MANY_ROWS = 16, 256


def dense_is_faster(runner: LayerRunner) -> bool:
    """Whether `DenseAttention` gives what layer 0's own attention gives, and sooner.

    Where a model's attention does more than mask, scale and mix (sinks, capped scores, quantised pages), the
    outputs differ, and the answer is no.
    """
    positions = torch.arange(NUM_POSITIONS)
    positions = positions[positions % RUN_EVERY < RUN_TOKENS]
    blocks = torch.arange(-(-NUM_POSITIONS // runner.block_size), dtype=torch.int32)
    generator = torch.Generator().manual_seed(0)

    def random(num_rows: int, num_heads: int) -> torch.Tensor:
        rows = torch.randn(num_rows, num_heads, runner.head_size, generator=generator)
        return rows.to(runner.device, runner.dtype)

    queries = random(len(positions), runner.num_heads)
    keys, values = random(NUM_POSITIONS, runner.num_kv_heads), random(NUM_POSITIONS, runner.num_kv_heads)
    index = positions.to(runner.device)
    attention = DenseAttention(positions, like=keys, window=runner.window(0))
    scale: float = runner.attentions[0].impl.scale
    with runner.in_pages(runner.new_pages(len(blocks))):
        prepared = runner.prepare(rows_of_one(positions, blocks, runner.block_size))
        slots = rows_of_one(torch.arange(NUM_POSITIONS), blocks, runner.block_size).slots
        runner.write(0, keys, values, slots.to(runner.device))
        flat = [rows.flatten(1) for rows in (queries, keys[index], values[index])]
        paged_ms, paged = _best(lambda: runner.attend(0, prepared, *flat))
        dense_ms, dense = _best(lambda: attention(queries, keys, values, scale).flatten(1))
    logger.info("attention of %d rows: paged %.2f ms, dense %.2f ms", len(positions), paged_ms, dense_ms)
    return dense_ms < paged_ms and _same(dense, paged)


def measure_rates(runner: LayerRunner, max_batched_tokens: int) -> Rates:
    """What a layer takes, from a few rows and from many.

    Args:
        max_batched_tokens: of one pass of prefill.
    """
    few_s, many_s = (_layer_s(runner, num_rows) for num_rows in (FEW_ROWS, MANY_ROWS))
    # Not from the difference: one disturbed measurement would make rows look free, and no blend worth it.
    row_s = many_s / MANY_ROWS
    layer_s = max(0.0, few_s - FEW_ROWS * row_s)
    logger.info("a layer takes %.2f ms, and %.3f ms more for each row", layer_s * 1e3, row_s * 1e3)
    return Rates(runner.num_layers, layer_s, row_s, (max_batched_tokens, SLICE_ROWS))


def _layer_s(runner: LayerRunner, num_rows: int) -> float:
    """Seconds of a layer over consecutive rows, as full prefill runs them."""
    blocks = torch.arange(-(-num_rows // runner.block_size), dtype=torch.int32)
    stream = runner.embed([1] * num_rows)
    with runner.in_pages(runner.new_pages(len(blocks))):
        prepared = runner.prepare(rows_of_one(torch.arange(num_rows), blocks, runner.block_size))
        return _best(lambda: runner.run(0, prepared, stream.copy()).hidden)[0] / 1e3


def _best(attend: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
    """Milliseconds of the fastest of some rounds behind one that warms up, and what it gave."""
    given, best = attend(), float("inf")
    for _ in range(NUM_ROUNDS):
        _wait(given)
        begin = time.perf_counter()
        given = attend()
        _wait(given)
        best = min(best, (time.perf_counter() - begin) * 1e3)
    return best, given


def _wait(tensor: torch.Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)


def _same(dense: torch.Tensor, paged: torch.Tensor) -> bool:
    tolerance = 32 * torch.finfo(paged.dtype).eps
    error = (dense.float() - paged.float()).norm() / paged.float().norm()
    return bool(error <= tolerance)
