"""A blend for another question, put on top of an earlier one of the same context."""

from collections.abc import Sequence

import pytest
import torch
from transformers import PreTrainedModel

from blend.chunks.chunk import ChunkKV, make_record
from blend.errors import RequestError
from blend.hf import blend, compute_chunks
from tests.conftest import RandomIds
from tests.reference.prefill import full_prefill, greedy, rows_of
from tests.support.tolerances import assert_close

Ids = tuple[int, ...]


@pytest.fixture
def chunks(llama: PreTrainedModel, random_ids: RandomIds) -> list[ChunkKV]:
    prefix = random_ids(6)
    return compute_chunks(llama, [make_record("tiny", prefix, random_ids(n)) for n in (40, 30, 20)])


def context_of(chunks: Sequence[ChunkKV]) -> Ids:
    ids = [token for chunk in reversed(chunks) for token in (*chunk.record.token_ids, 3)]
    return (*chunks[0].record.prefix_ids, *ids[:-1])


def test_what_was_computed_stays_and_the_rest_of_what_is_picked_is_computed(
    llama: PreTrainedModel, chunks: list[ChunkKV], random_ids: RandomIds
) -> None:
    context = context_of(chunks)
    one, other = (*context, *random_ids(8)), (*context, *random_ids(8))
    base = blend(llama, one, chunks, recompute_ratio=0.3)
    topped_up = blend(llama, other, chunks, recompute_ratio=0.3, onto=base)
    assert len(topped_up.selected) > 0
    assert not base.computed[topped_up.selected].any()
    both = torch.cat([base.selected, topped_up.selected]).sort().values
    assert torch.equal(topped_up.computed.nonzero().flatten(), both)
    rest = ~torch.isin(torch.arange(len(context)), topped_up.selected)
    for before, after in zip(rows_of(base.cache), rows_of(topped_up.cache), strict=True):
        assert torch.equal(before[:, rest], after[:, rest])
    assert topped_up.stats.counts.cold_tokens == 0 and topped_up.stats.counts.recomputed_tokens == len(
        topped_up.selected
    )


def test_the_same_question_again_needs_nothing(
    llama: PreTrainedModel, chunks: list[ChunkKV], random_ids: RandomIds
) -> None:
    prompt = (*context_of(chunks), *random_ids(8))
    base = blend(llama, prompt, chunks, recompute_ratio=0.99)
    again = blend(llama, prompt, chunks, recompute_ratio=0.1, onto=base)
    assert not len(again.selected) and again.stats.residual == 0


def test_everything_topped_up_is_a_full_prefill_and_leaves_the_first_blend_as_it_was(
    llama: PreTrainedModel, chunks: list[ChunkKV], random_ids: RandomIds
) -> None:
    context = context_of(chunks)
    one, other = (*context, *random_ids(8)), (*context, *random_ids(8))
    base = blend(llama, one, chunks, recompute_ratio=0.0)
    before = [rows.clone() for rows in rows_of(base.cache)]
    answer = greedy(llama, one, 4, base.cache)  # the cache grows
    topped_up = blend(llama, other, chunks, recompute_ratio=1.0, onto=base)
    for got, expected in zip(rows_of(topped_up.cache), full_prefill(llama, other), strict=True):
        assert_close(got, expected[:, : len(context)])
    for rows, now in zip(before, rows_of(base.cache), strict=True):
        assert torch.equal(rows, now[:, : len(context)])
    assert answer == greedy(llama, one, 4, blend(llama, one, chunks, recompute_ratio=0.0).cache)


def test_a_blend_of_another_context_is_refused(
    llama: PreTrainedModel, chunks: list[ChunkKV], random_ids: RandomIds
) -> None:
    base = blend(llama, (*context_of(chunks[:2]), *random_ids(3)), chunks)
    with pytest.raises(RequestError, match="got a blend of 77 context tokens to top up, expected one of"):
        blend(llama, (*context_of(chunks), *random_ids(3)), chunks, onto=base)
