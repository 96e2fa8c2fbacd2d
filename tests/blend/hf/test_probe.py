"""The question probe sees what the model itself attends to."""

import pytest
import torch
from transformers import PreTrainedModel

from blend.chunks.chunk import make_record
from blend.hf.context import Context
from blend.hf.probe import question_attention
from blend.plan.plan import BlendPlan, make_plan
from blend.select.base import MAX_PROBE_TOKENS
from tests.reference.prefill import full_prefill
from tests.reference.tiny_models import VOCAB_SIZE

NUM_CONTEXT, NUM_SUFFIX = 30, 5


def random_ids(num: int, seed: int = 0) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(VOCAB_SIZE, (num,), generator=generator).tolist())


def one_chunk(ids: tuple[int, ...]) -> BlendPlan:
    """A context that is one chunk, and the rest of the ids as suffix."""
    return make_plan(ids, [(0, make_record("m", (), ids[:NUM_CONTEXT]))])


def context_of(model: PreTrainedModel, ids: tuple[int, ...], num: int) -> Context:
    keys, values = full_prefill(model, ids[:num])
    return Context(keys, values, *torch.zeros(2, num, dtype=torch.bool))


@pytest.mark.parametrize("part", [(0.0, 1.0), (0.5, 1.0), (0.0, 0.25)])
def test_over_a_full_prefills_rows_it_is_the_models_own_attention(
    model: PreTrainedModel, part: tuple[float, float]
) -> None:
    ids = random_ids(NUM_CONTEXT + NUM_SUFFIX)
    plan = one_chunk(ids)
    got = question_attention(model, plan, context_of(model, ids, NUM_CONTEXT), part)
    own = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        layers = model(torch.tensor([ids]), output_attentions=True).attentions
    finally:
        model.set_attn_implementation(own)
    first, last = (round(edge * len(layers)) for edge in part)
    seen = torch.stack(layers[first:last])[:, 0, :, NUM_CONTEXT:, :NUM_CONTEXT]  # [layers, Hq, P, N]
    torch.testing.assert_close(got, seen.mean((0, 1)), rtol=1e-4, atol=1e-6)


def test_cold_rows_are_not_seen_and_the_model_is_left_as_it_was(model: PreTrainedModel) -> None:
    ids = random_ids(NUM_CONTEXT + NUM_SUFFIX)
    plan = one_chunk(ids)
    cached = context_of(model, ids, NUM_CONTEXT)
    cached.cold[7:12] = True
    own = model.config._attn_implementation
    got = question_attention(model, plan, cached, (0.0, 1.0))
    assert not got[:, 7:12].any() and (got[:, :7] > 0).all()
    assert model.config._attn_implementation == own


def test_without_a_suffix_there_is_nothing_to_see(model: PreTrainedModel) -> None:
    ids = random_ids(NUM_CONTEXT)
    got = question_attention(model, BlendPlan(ids, ()), context_of(model, ids, NUM_CONTEXT), (0.0, 1.0))
    assert got.shape == (0, NUM_CONTEXT)


def test_of_a_long_suffix_only_the_end_is_run(model: PreTrainedModel) -> None:
    ids = random_ids(NUM_CONTEXT + MAX_PROBE_TOKENS + 40)
    plan = one_chunk(ids)
    got = question_attention(model, plan, context_of(model, ids, NUM_CONTEXT), (0.5, 1.0))
    assert got.shape == (MAX_PROBE_TOKENS, NUM_CONTEXT)
    assert torch.isfinite(got).all()


def test_a_question_in_front_of_the_documents_is_seen_by_the_suffix(model: PreTrainedModel) -> None:
    """As if the suffix ran over a full prefill, though the question's own rows are not stored."""
    ids = random_ids(NUM_CONTEXT + NUM_SUFFIX)
    chunk = make_record("m", ids[:12], ids[12:NUM_CONTEXT])
    plan = make_plan(ids, [(12, chunk)])
    cached = context_of(model, ids, NUM_CONTEXT)
    seen = question_attention(model, one_chunk(ids), cached, (0.0, 1.0))
    cached.cold[:12] = True  # a gap: computed by the probe itself, which stands before every chunk
    got = question_attention(model, plan, cached, (0.0, 1.0))
    torch.testing.assert_close(got[:, 12:], seen[:, 12:], rtol=1e-4, atol=1e-6)
