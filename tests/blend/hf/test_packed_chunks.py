"""Packed chunks are blended closely, never called exact, and left out where nothing may be lost."""

import pytest
from transformers import PreTrainedModel

from blend.chunk import make_record
from blend.hf import blend, compute_chunks
from blend.store.codecs import CODECS
from blend.store.codecs.base import Codec
from blend.store.recoding import recoded
from tests.conftest import RandomIds
from tests.reference.prefill import full_prefill, rows_of
from tests.tolerances import assert_close

LOSSY = [one for one in CODECS.values() if not one.is_lossless]


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
    assert (reused.stats.exact_tokens, reused.stats.reused_tokens) == (6, 40)
    pairs = zip(rows_of(reused.cache), full_prefill(llama, prompt), strict=True)
    apart = [float((got - right[:, :46]).norm() / right[:, :46].norm()) for got, right in pairs]
    assert 0 < max(apart) < 0.3
    whole = blend(llama, prompt, packed, recompute_ratio=1.0)
    assert (whole.stats.exact_tokens, whole.stats.recomputed_tokens) == (6, 40)
    for got, expected in zip(rows_of(whole.cache), full_prefill(llama, prompt), strict=True):
        assert_close(got, expected[:, :46])
