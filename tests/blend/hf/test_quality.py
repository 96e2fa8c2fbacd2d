"""How far a blend is from full prefill: less the more is recomputed, and less than with random tokens."""

import pytest
import torch
from transformers import PreTrainedModel

from blend.chunk import ChunkKV, make_record
from blend.hf import blend, compute_chunks
from blend.select import register
from tests.reference.prefill import full_prefill, rows_of
from tests.reference.tiny_models import VOCAB_SIZE

NUM_SEEDS = 8
PREFIX_TOKENS, CHUNK_TOKENS, NUM_CHUNKS = 5, 20, 4


def prompts(model: PreTrainedModel) -> list[tuple[tuple[int, ...], list[ChunkKV]]]:
    drawn = []
    for seed in range(NUM_SEEDS):
        generator = torch.Generator().manual_seed(seed)
        prefix = tuple(torch.randint(VOCAB_SIZE, (PREFIX_TOKENS,), generator=generator).tolist())
        texts = torch.randint(VOCAB_SIZE, (NUM_CHUNKS, CHUNK_TOKENS), generator=generator).tolist()
        chunks = compute_chunks(model, [make_record("tiny", prefix, text) for text in texts])
        drawn.append(((*prefix, *(token for text in texts for token in text), 1), chunks))
    return drawn


def error(model: PreTrainedModel, prompt: tuple[int, ...], chunks: list[ChunkKV], **how: object) -> float:
    """Distance of keys and values to full prefill's, relative to their size."""
    got = torch.stack(rows_of(blend(model, prompt, chunks, **how).cache))  # type: ignore[arg-type]
    expected = torch.stack(full_prefill(model, prompt[:-1]))
    return float((got - expected).norm() / expected.norm())


def mean_error(model: PreTrainedModel, **how: object) -> float:
    return sum(error(model, *drawn, **how) for drawn in prompts(model)) / NUM_SEEDS


@pytest.mark.parametrize("selector", ["deviation", "first"])
def test_error_does_not_grow_with_the_ratio(model: PreTrainedModel, selector: str) -> None:
    ratios = [0.0, 0.15, 0.3, 0.5, 0.75, 1.0]
    errors = [mean_error(model, recompute_ratio=ratio, selector=selector) for ratio in ratios]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.05, "chunks that never saw each other must be wrong, or this test shows nothing"
    assert errors[-1] < 1e-5


@pytest.mark.parametrize("ratio", [0.15, 0.3])
def test_the_default_selector_beats_random_at_the_same_budget(model: PreTrainedModel, ratio: float) -> None:
    register("random", "tests.reference.random_selector:Random")
    by_deviation = mean_error(model, recompute_ratio=ratio)
    at_random = mean_error(model, recompute_ratio=ratio, selector="random")
    assert by_deviation < at_random
