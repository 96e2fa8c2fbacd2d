"""What must hold of a model's layers before any blend of it can be right, looked at in the layers."""

import torch

from blend.chunks.chunk import ChunkKV, make_record
from blend.maths.rope import realign, rotation
from blend.vllm.layers.layers import LayerRunner
from blend.vllm.layers.ranks import Ranks
from blend.vllm.worker.compute import compute_chunks

NUM_TOKENS = 24
MOVED_BY = 17
TOLERANCE = 0.03
"""Relative; bfloat16, the coarsest dtype, stays under 0.01, and what is wrong is off by about one."""


def check_layers(runner: LayerRunner, ranks: Ranks, vocab_size: int) -> str | None:
    """Why the model's chunk KV cannot be used, or None; computes a few short chunks and stores nothing."""
    return _check_rotary(runner, ranks, vocab_size) or _check_causal(runner, ranks, vocab_size)


def _check_rotary(runner: LayerRunner, ranks: Ranks, vocab_size: int) -> str | None:
    """Layer 0's keys depend on token and position alone: realigned, they are those of the other place."""
    prefix, ids = _ids(MOVED_BY, 1, vocab_size), _ids(NUM_TOKENS, 2, vocab_size)
    here, before = _compute([ids, prefix], None, runner, ranks)
    (there,) = _compute([ids], before, runner, ranks)
    turn = rotation(runner.rotary_table.cpu(), MOVED_BY)
    moved = realign(here.keys[0], turn, runner.rotary_interleaved)
    error = _relative_error(moved, there.keys[0])
    if error < TOLERANCE:
        return None
    return (
        f"its keys do not turn as its rotary table says (relative error {error:.2g} after {MOVED_BY} "
        f"positions, expected under {TOLERANCE}): chunks cannot be realigned"
    )


def _check_causal(runner: LayerRunner, ranks: Ranks, vocab_size: int) -> str | None:
    """A token's keys and values do not change when a later token does."""
    ids, others = _ids(NUM_TOKENS, 2, vocab_size), _ids(NUM_TOKENS, 3, vocab_size)
    half = NUM_TOKENS // 2
    one, other = _compute([ids, ids[:half] + others[half:]], None, runner, ranks)
    error = max(
        _relative_error(a[:, :half], b[:, :half])
        for a, b in ((one.keys, other.keys), (one.values, other.values))
    )
    if error < TOLERANCE:
        return None
    return (
        f"its tokens see later ones (their keys and values change by {error:.2g} when a later token does, "
        f"expected under {TOLERANCE}): its attention mask looks ahead"
    )


def _compute(
    batch: list[tuple[int, ...]], prefix: ChunkKV | None, runner: LayerRunner, ranks: Ranks
) -> list[ChunkKV]:
    prefix_ids = prefix.record.token_ids if prefix else ()
    records = [make_record("check", prefix_ids, ids) for ids in batch]
    return compute_chunks(records, prefix, runner, ranks)


def _ids(num: int, seed: int, vocab_size: int) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(vocab_size, (num,), generator=generator).tolist())


def _relative_error(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got.float() - expected.float()).norm() / expected.float().norm())
