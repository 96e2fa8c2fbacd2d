"""Packed chunks are blended closely, never called exact, and left out where nothing may be lost."""

import pytest
from transformers import PreTrainedModel

from blend.chunks.chunk import make_record
from blend.hf import blend, compute_chunks
from blend.store.codecs import NAMES, codec
from blend.store.codecs.base import Codec
from blend.store.file_format.recoding import recoded
from tests.conftest import RandomIds
from tests.reference.prefill import full_prefill, rows_of
from tests.support.tolerances import assert_close

LOSSY = [codec(name) for name in NAMES if not codec(name).is_lossless]


@pytest.mark.parametrize("one", LOSSY, ids=lambda one: one.name)
def test_a_packed_chunk_is_reused_but_not_exact_and_at_ratio_one_recomputed(
    llama: PreTrainedModel, random_ids: RandomIds, one: Codec
) -> None:
    prefix, ids = random_ids(6), random_ids(40)
    computed = compute_chunks(llama, [make_record("m", (), prefix), make_record("m", prefix, ids)])
    packed = [recoded(chunk, one) for chunk in computed]
    assert [chunk.is_lossless for chunk in packed] == [True, False]  # a prefix is kept as it is
    prompt = (*prefix, *ids, *random_ids(3))
    reused = blend(llama, prompt, packed, recompute_ratio=0.0)
    assert (reused.stats.counts.exact_tokens, reused.stats.counts.reused_tokens) == (6, 40)
    pairs = zip(rows_of(reused.cache), full_prefill(llama, prompt), strict=True)
    apart = [float((got - right[:, :46]).norm() / right[:, :46].norm()) for got, right in pairs]
    assert 0 < max(apart) < 0.3
    whole = blend(llama, prompt, packed, recompute_ratio=1.0)
    assert (whole.stats.counts.exact_tokens, whole.stats.counts.recomputed_tokens) == (6, 40)
    for got, expected in zip(rows_of(whole.cache), full_prefill(llama, prompt), strict=True):
        assert_close(got, expected[:, :46])


@pytest.mark.parametrize("one", LOSSY, ids=lambda one: one.name)
@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.9])
def test_a_packed_first_chunk_takes_nothing_of_the_budget(
    llama: PreTrainedModel, random_ids: RandomIds, one: Codec, ratio: float
) -> None:
    prefix, first, second = random_ids(6), random_ids(20), random_ids(40)
    records = [make_record("m", (), prefix), *(make_record("m", prefix, ids) for ids in (first, second))]
    computed = compute_chunks(llama, records)
    packed = [recoded(chunk, one) for chunk in computed]
    prompt = (*prefix, *first, *second, *random_ids(3))
    for chunks, exact in ((computed, 26), (packed, 6)):
        blended = blend(llama, prompt, chunks, recompute_ratio=ratio)
        budget = round(ratio * 66)
        assert len(blended.selected) == min(budget, 40) and int(blended.selected.min()) >= 26
        stats = blended.stats
        assert (stats.counts.exact_tokens, stats.counts.reused_tokens) == (
            exact,
            66 - exact - len(blended.selected),
        )


def test_topping_up_a_blend_of_packed_chunks_to_ratio_one_is_a_full_prefill(
    llama: PreTrainedModel, random_ids: RandomIds
) -> None:
    prefix, ids = random_ids(6), random_ids(40)
    records = [make_record("m", (), prefix), make_record("m", prefix, ids)]
    packed = [recoded(chunk, codec("cachegen")) for chunk in compute_chunks(llama, records)]
    one, other = ((*prefix, *ids, *random_ids(3)) for _ in range(2))
    base = blend(llama, one, packed, recompute_ratio=0.5)
    again = blend(llama, other, packed, recompute_ratio=0.5, onto=base)
    assert (again.stats.counts.exact_tokens, again.stats.counts.reused_tokens, len(again.selected)) == (
        6,
        40,
        0,
    )
    whole = blend(llama, other, packed, recompute_ratio=1.0, onto=base)
    assert (whole.stats.counts.exact_tokens, whole.stats.counts.recomputed_tokens) == (6, 40)
    for got, expected in zip(rows_of(whole.cache), full_prefill(llama, other), strict=True):
        assert_close(got, expected[:, :46])
