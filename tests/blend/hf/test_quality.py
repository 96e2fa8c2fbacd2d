"""How far a blend is from full prefill: less the more is recomputed, and less than with random tokens."""

from dataclasses import dataclass

import pytest
import torch
from transformers import PreTrainedModel

from blend.chunks.chunk import ChunkKV, make_record
from blend.hf import blend, compute_chunks
from tests.reference.prefill import full_prefill, rows_of
from tests.reference.tiny_models import VOCAB_SIZE

NUM_PROMPTS = 8
PREFIX_TOKENS, CHUNK_TOKENS, NUM_CHUNKS, QUESTION_TOKENS = 5, 20, 4, 6


@dataclass(frozen=True, slots=True)
class Drawn:
    """A random prompt, its chunks, and full prefill's keys and values of its context [2, L, N, H, D]."""

    prompt: tuple[int, ...]
    chunks: list[ChunkKV]
    expected: torch.Tensor


@pytest.fixture(scope="module")
def drawn(model: PreTrainedModel) -> list[Drawn]:
    return [_draw(model, seed) for seed in range(NUM_PROMPTS)]


def _draw(model: PreTrainedModel, seed: int) -> Drawn:
    generator = torch.Generator().manual_seed(seed)
    prefix = tuple(torch.randint(VOCAB_SIZE, (PREFIX_TOKENS,), generator=generator).tolist())
    texts = torch.randint(VOCAB_SIZE, (NUM_CHUNKS, CHUNK_TOKENS), generator=generator).tolist()
    chunks = compute_chunks(model, [make_record("tiny", prefix, text) for text in texts])
    question = torch.randint(VOCAB_SIZE, (QUESTION_TOKENS,), generator=generator).tolist()
    context = (*prefix, *(token for text in texts for token in text))
    return Drawn((*context, *question), chunks, torch.stack(full_prefill(model, context)))


def mean_error(model: PreTrainedModel, drawn: list[Drawn], ratio: float, selector: str) -> float:
    """Distance of blended keys and values to full prefill's, relative to their size, over all prompts."""
    errors = []
    for one in drawn:
        done = blend(model, one.prompt, one.chunks, recompute_ratio=ratio, selector=selector)
        got = torch.stack(rows_of(done.cache))
        errors.append(float((got - one.expected).norm() / one.expected.norm()))
    return sum(errors) / len(errors)


@pytest.mark.parametrize("selector", ["deviation", "first", "question-late"])
def test_error_does_not_grow_with_the_ratio(
    model: PreTrainedModel, drawn: list[Drawn], selector: str
) -> None:
    errors = [mean_error(model, drawn, ratio, selector) for ratio in (0.0, 0.15, 0.3, 0.5, 0.75, 1.0)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.05, "chunks that never saw each other must be wrong, or this test shows nothing"
    assert errors[-1] < 1e-5


@pytest.mark.parametrize("ratio", [0.15, 0.3])
def test_deviation_beats_random_at_the_same_budget(
    model: PreTrainedModel, drawn: list[Drawn], ratio: float
) -> None:
    by_deviation = mean_error(model, drawn, ratio, "deviation")
    assert by_deviation < mean_error(model, drawn, ratio, "random")
