"""Prompts of every make: what is known of them, in which order, and what stands around it."""

from dataclasses import dataclass
from functools import cache

import pytest
import torch
from transformers import PreTrainedModel

from blend.chunks.chunk import ChunkKV, make_record
from blend.hf import blend, compute_chunks
from blend.plan.match import ChunkMatcher
from blend.plan.plan import make_plan
from tests.reference.prefill import decode_selected, full_prefill, greedy, rows_of
from tests.reference.tiny_models import VOCAB_SIZE
from tests.support.tolerances import assert_close


def _draw(num: int, seed: int) -> tuple[int, ...]:
    return tuple(torch.randint(VOCAB_SIZE, (num,), generator=torch.Generator().manual_seed(seed)).tolist())


PREFIX, A, B, UNKNOWN, QUESTION = (_draw(num, seed) for seed, num in enumerate((6, 24, 17, 13, 5)))


@dataclass(frozen=True, slots=True)
class Case:
    """A prompt and what must become of it at ratio 0, in tokens."""

    prompt: tuple[int, ...]
    context: int
    exact: int
    reused: int
    cold: int


CASES = {
    "all known": Case((*PREFIX, *A, *B, *QUESTION), context=47, exact=30, reused=17, cold=0),
    "other order": Case((*PREFIX, *B, *A, *QUESTION), context=47, exact=23, reused=24, cold=0),
    "no prefix": Case((*A, *B, *QUESTION), context=41, exact=0, reused=41, cold=0),
    "one chunk": Case((*PREFIX, *A, *QUESTION), context=30, exact=30, reused=0, cold=0),
    "same chunk twice": Case((*PREFIX, *A, *A, *QUESTION), context=54, exact=30, reused=24, cold=0),
    "empty suffix": Case((*PREFIX, *A, *B), context=46, exact=30, reused=16, cold=0),
    "question before the documents": Case((*QUESTION, *A, *B, 1), context=46, exact=0, reused=41, cold=5),
    "unknown chunk in the middle": Case(
        (*PREFIX, *A, *UNKNOWN, *B, *QUESTION), context=60, exact=30, reused=17, cold=13
    ),
    "one chunk exactly": Case(A, context=23, exact=0, reused=23, cold=0),
    "prefix exactly": Case(PREFIX, context=5, exact=5, reused=0, cold=0),
    "one token joins": Case((*PREFIX, *A, 7, *B, 7, *A, 7), context=73, exact=30, reused=41, cold=2),
}


@pytest.fixture(scope="module")
def known(model: PreTrainedModel) -> list[ChunkKV]:
    records = [make_record("tiny", (), PREFIX), *(make_record("tiny", PREFIX, text) for text in (A, B))]
    return compute_chunks(model, records)


@cache
def plain_answer(model: PreTrainedModel, prompt: tuple[int, ...]) -> list[int]:
    """Without a blend; the same for every selector."""
    return greedy(model, prompt, 6)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_tokens_are_counted_by_what_became_of_them(
    model: PreTrainedModel, known: list[ChunkKV], case: Case
) -> None:
    stats = blend(model, case.prompt, known, recompute_ratio=0.0).stats
    counted = (
        stats.context_tokens,
        stats.counts.exact_tokens,
        stats.counts.reused_tokens,
        stats.counts.cold_tokens,
    )
    assert counted == (case.context, case.exact, case.reused, case.cold)
    assert stats.counts.recomputed_tokens == 0
    assert stats.counts.cached_tokens == case.exact + case.reused
    assert stats.fallback is None
    assert (
        min(stats.times.match_ms, stats.times.realign_ms, stats.times.select_ms, stats.times.recompute_ms)
        >= 0
    )


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("selector", ["deviation", "first", "all"])
def test_every_prompt_at_ratio_one_answers_as_full_prefill(
    model: PreTrainedModel, known: list[ChunkKV], case: Case, selector: str
) -> None:
    done = blend(model, case.prompt, known, recompute_ratio=1.0, selector=selector)
    for got, expected in zip(rows_of(done.cache), full_prefill(model, case.prompt), strict=True):
        assert_close(got, expected[:, : case.context])
    stats = done.stats
    assert (stats.counts.exact_tokens, stats.counts.reused_tokens, stats.counts.cold_tokens) == (
        case.exact,
        0,
        case.cold,
    )
    assert stats.counts.recomputed_tokens == case.reused
    assert greedy(model, case.prompt, 6, done.cache) == plain_answer(model, case.prompt)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_prompt_is_blended_as_decoding_the_selected_tokens_does(
    model: PreTrainedModel, known: list[ChunkKV], case: Case
) -> None:
    stale = blend(model, case.prompt, known, recompute_ratio=0.0, selector="first")
    done = blend(model, case.prompt, known, recompute_ratio=0.5)
    expected = decode_selected(model, case.prompt, rows_of(stale.cache), done.selected.tolist())
    for got, rows in zip(rows_of(done.cache), expected, strict=True):
        assert_close(got, rows)


def test_nothing_known_leaves_everything_to_the_prefill(model: PreTrainedModel, known: list[ChunkKV]) -> None:
    prompt = (*UNKNOWN, *QUESTION)
    done = blend(model, prompt, known)
    assert done.stats.fallback == "no known chunk in the prompt"
    assert (done.stats.context_tokens, done.stats.chunks) == (0, ())
    assert done.cache.get_seq_length() == 0
    assert done.selected.tolist() == []
    assert greedy(model, prompt, 6, done.cache) == greedy(model, prompt, 6)


def test_an_unknown_chunk_at_the_start_is_as_correct_as_full_prefill_at_any_ratio(
    model: PreTrainedModel, known: list[ChunkKV]
) -> None:
    prompt = (*UNKNOWN, *A, *QUESTION)
    done = blend(model, prompt, known, recompute_ratio=0.0)
    for got, expected in zip(rows_of(done.cache), full_prefill(model, prompt), strict=True):
        assert_close(got[:, :13], expected[:, :13])


def test_a_chunk_of_the_plan_that_cannot_be_read_is_computed_cold(
    model: PreTrainedModel, known: list[ChunkKV]
) -> None:
    matcher = ChunkMatcher()
    for chunk in known:
        matcher.add(chunk.record)
    prompt = (*PREFIX, *A, *B, *QUESTION)
    plan = make_plan(prompt, matcher.find(prompt))
    done = blend(model, plan, [known[0], known[2]], recompute_ratio=0.0)
    assert done.selected.tolist() == list(range(6, 30))
    assert (
        done.stats.counts.exact_tokens,
        done.stats.counts.cold_tokens,
        done.stats.counts.reused_tokens,
    ) == (6, 24, 17)
    for got, expected in zip(rows_of(done.cache), full_prefill(model, prompt), strict=True):
        assert_close(got[:, :30], expected[:, :30])
    nothing = blend(model, plan, [], recompute_ratio=0.0)
    assert nothing.stats.counts.cold_tokens == 47
    for got, expected in zip(rows_of(nothing.cache), full_prefill(model, prompt), strict=True):
        assert_close(got, expected[:, :47])


def test_stats_name_the_chunks_in_their_order(model: PreTrainedModel, known: list[ChunkKV]) -> None:
    stats = blend(model, (*PREFIX, *B, 7, *A, *QUESTION), known, recompute_ratio=0.2, selector="first").stats
    prefix, a, b = (chunk.record.chunk_id for chunk in known)
    assert [(use.chunk_id, use.start, use.num_tokens) for use in stats.chunks] == [
        (prefix, 0, 6),
        (b, 6, 17),
        (a, 24, 24),
    ]
    assert (stats.selector, stats.ratio) == ("first", 0.2)
    assert stats.counts.recomputed_tokens == round(0.2 * 48) - stats.counts.cold_tokens
