"""Where the blend must equal something known: full prefill, the stored bits, a chunk prefilled alone."""

from collections.abc import Sequence

import pytest
import torch
from transformers import PreTrainedModel

from blend.chunks.chunk import ChunkKV, make_record
from blend.errors import ModelError, NotBlendable, RequestError
from blend.hf import blend, compute_chunk, compute_chunks
from tests.conftest import RandomIds
from tests.reference.prefill import decode_selected, full_prefill, greedy, rows_of
from tests.reference.tiny_models import ODD_FAMILIES, tiny_model
from tests.support.tolerances import ROTATION, assert_close


def chunks_of(model: PreTrainedModel, prefix: Sequence[int], *texts: Sequence[int]) -> list[ChunkKV]:
    return compute_chunks(model, [make_record("tiny", prefix, text) for text in texts])


def test_chunk_kv_is_the_prefill_behind_its_prefix_without_the_prefix(
    model: PreTrainedModel, random_ids: RandomIds
) -> None:
    prefix, text = random_ids(7), random_ids(20)
    chunk = compute_chunk(model, make_record("tiny", prefix, text))
    keys, values = full_prefill(model, prefix + text)
    assert_close(chunk.keys, keys[:, 7:])
    assert_close(chunk.values, values[:, 7:])


def test_chunks_of_one_batch_are_what_they_are_alone(model: PreTrainedModel, random_ids: RandomIds) -> None:
    prefix = random_ids(5)
    records = [make_record("tiny", p, random_ids(n)) for p, n in ((prefix, 30), ((), 3), (prefix, 11))]
    for chunk, record in zip(compute_chunks(model, records), records, strict=True):
        alone = compute_chunk(model, record)
        assert chunk.record is record
        assert_close(chunk.keys, alone.keys)
        assert_close(chunk.values, alone.values)


def test_no_chunks_are_computed_when_none_are_asked_for(llama: PreTrainedModel) -> None:
    assert compute_chunks(llama, []) == []


def test_ratio_one_gives_full_prefill_and_its_greedy_text(
    model: PreTrainedModel, random_ids: RandomIds
) -> None:
    prefix, suffix = random_ids(6), random_ids(5)
    a, b, c = chunks_of(model, prefix, random_ids(24), random_ids(17), random_ids(31))
    prompt = (*prefix, *c.record.token_ids, *a.record.token_ids, *b.record.token_ids, *suffix)
    done = blend(model, prompt, [a, b, c], recompute_ratio=1.0)
    num_context = len(prompt) - len(suffix)
    for got, expected in zip(rows_of(done.cache), full_prefill(model, prompt), strict=True):
        assert_close(got, expected[:, :num_context])
    assert greedy(model, prompt, 12, done.cache) == greedy(model, prompt, 12)


def test_ratio_zero_with_a_chunk_at_its_own_offset_gives_the_stored_bits(
    model: PreTrainedModel, random_ids: RandomIds
) -> None:
    prefix = random_ids(6)
    known = [
        compute_chunk(model, make_record("tiny", (), prefix)),
        compute_chunk(model, make_record("tiny", prefix, random_ids(20))),
    ]
    prompt = (*prefix, *known[1].record.token_ids, *random_ids(3))
    done = blend(model, prompt, known, recompute_ratio=0.0)
    keys, values = rows_of(done.cache)
    assert torch.equal(keys, torch.cat([chunk.keys for chunk in known], dim=1))
    assert torch.equal(values, torch.cat([chunk.values for chunk in known], dim=1))
    assert done.stats.counts.exact_tokens == done.stats.context_tokens == 26
    assert greedy(model, prompt, 8, done.cache) == greedy(model, prompt, 8)


def test_a_moved_chunk_is_what_its_own_prefill_there_gives(
    model: PreTrainedModel, random_ids: RandomIds
) -> None:
    (chunk,) = chunks_of(model, (), random_ids(20))
    gap = random_ids(150)
    done = blend(model, (*gap, *chunk.record.token_ids, 1), [chunk], recompute_ratio=0.0)
    own_keys, own_values = full_prefill(model, chunk.record.token_ids, first_position=150)
    keys, values = rows_of(done.cache)
    assert_close(keys[:, 150:], own_keys, ROTATION)
    assert_close(values[:, 150:], own_values)


def test_a_chunk_computed_behind_a_long_prefix_can_move_to_the_front(
    model: PreTrainedModel, random_ids: RandomIds
) -> None:
    (chunk,) = chunks_of(model, random_ids(200), random_ids(10))
    done = blend(model, (*chunk.record.token_ids, 1), [chunk], recompute_ratio=0.0)
    keys, values = rows_of(done.cache)
    # Layer 0 depends on token and position alone.
    assert_close(keys[0], full_prefill(model, chunk.record.token_ids)[0][0], ROTATION)
    assert torch.equal(values, chunk.values)


@pytest.mark.parametrize("family", ODD_FAMILIES)
def test_families_with_other_rotary_layouts_and_embeddings_blend_too(
    family: str, random_ids: RandomIds
) -> None:
    model = tiny_model(family)
    a, b = chunks_of(model, (), random_ids(24), random_ids(17))
    gap = random_ids(30)
    prompt = (*gap, *b.record.token_ids, *a.record.token_ids, 1)
    whole = blend(model, prompt, [a, b], recompute_ratio=1.0)
    for got, expected in zip(rows_of(whole.cache), full_prefill(model, prompt), strict=True):
        assert_close(got, expected[:, :71])
    stale = blend(model, prompt, [a, b], recompute_ratio=0.0)
    alone, _ = full_prefill(model, b.record.token_ids, first_position=30)
    assert_close(rows_of(stale.cache)[0][:, 30:47], alone, ROTATION)


@pytest.mark.parametrize("selector", ["deviation", "first"])
def test_blend_is_what_decoding_the_selected_tokens_one_by_one_gives(
    model: PreTrainedModel, random_ids: RandomIds, selector: str
) -> None:
    prefix = random_ids(6)
    a, b = chunks_of(model, prefix, random_ids(24), random_ids(17))
    prompt = (*prefix, *b.record.token_ids, *random_ids(4), *a.record.token_ids, 1)
    stale = blend(model, prompt, [a, b], recompute_ratio=0.0)
    done = blend(model, prompt, [a, b], recompute_ratio=0.4, selector=selector)
    assert len(done.selected) == round(0.4 * 51)
    expected = decode_selected(model, prompt, rows_of(stale.cache), done.selected.tolist())
    for got, rows in zip(rows_of(done.cache), expected, strict=True):
        assert_close(got, rows)


def test_rows_that_were_not_selected_keep_the_realigned_bits(
    model: PreTrainedModel, random_ids: RandomIds
) -> None:
    a, b = chunks_of(model, (), random_ids(24), random_ids(17))
    prompt = (*b.record.token_ids, *a.record.token_ids, 1)
    stale, done = (blend(model, prompt, [a, b], recompute_ratio=ratio) for ratio in (0.0, 0.3))
    kept = torch.ones(41, dtype=torch.bool)
    kept[done.selected] = False
    assert 0 < kept.sum() < 41
    for before, after in zip(rows_of(stale.cache), rows_of(done.cache), strict=True):
        assert torch.equal(before[:, kept], after[:, kept])
        # Layer 0 is exact before and after; above it, recomputing must have changed something.
        assert (before[1:, done.selected] - after[1:, done.selected]).abs().max() > 0.01


@pytest.mark.parametrize("ratio", [0.4, 1.0])
def test_a_recomputed_token_never_sees_a_later_one(
    model: PreTrainedModel, random_ids: RandomIds, ratio: float
) -> None:
    text_a, text_b, question = random_ids(24), random_ids(17), random_ids(3)
    changed = (*text_b[:9], (text_b[9] + 1) % 200, *text_b[10:])
    rows = []
    for text in (text_b, changed):
        a, b = chunks_of(model, (), text_a, text)
        done = blend(model, (*question, *text_a, *text, 1), [a, b], recompute_ratio=ratio, selector="first")
        rows.append(rows_of(done.cache))
    first_changed = len(question) + len(text_a) + 9
    for before, after in zip(*rows, strict=True):
        assert torch.equal(before[:, :first_changed], after[:, :first_changed])
        assert not torch.equal(before[:, first_changed], after[:, first_changed])


def test_chunks_are_never_written_to(model: PreTrainedModel, random_ids: RandomIds) -> None:
    chunks = chunks_of(model, (), random_ids(24), random_ids(17))
    before = [(c.keys.clone(), c.values.clone()) for c in chunks]
    prompt = (*chunks[0].record.token_ids, *chunks[1].record.token_ids, 1)
    done = blend(model, prompt, chunks, recompute_ratio=0.5)
    greedy(model, prompt, 4, done.cache)
    for chunk, (keys, values) in zip(chunks, before, strict=True):
        assert torch.equal(chunk.keys, keys)
        assert torch.equal(chunk.values, values)


def test_eager_attention_gives_what_sdpa_gives(random_ids: RandomIds) -> None:
    texts = random_ids(24), random_ids(17)
    rows = []
    for implementation in ("sdpa", "eager"):
        model = tiny_model("llama")
        model.set_attn_implementation(implementation)
        chunks = chunks_of(model, (), *texts)
        done = blend(model, (*texts[1], *texts[0], 1), chunks, recompute_ratio=0.5, selector="first")
        rows.append(rows_of(done.cache))
    for sdpa, eager in zip(*rows, strict=True):
        assert_close(eager, sdpa)


def test_bfloat16_at_ratio_one_is_close_to_full_prefill(random_ids: RandomIds) -> None:
    model = tiny_model("llama").bfloat16()
    a, b = chunks_of(model, (), random_ids(24), random_ids(17))
    prompt = (*b.record.token_ids, *a.record.token_ids, 1)
    done = blend(model, prompt, [a, b], recompute_ratio=1.0)
    for got, expected in zip(rows_of(done.cache), full_prefill(model, prompt), strict=True):
        assert got.dtype == torch.bfloat16
        assert_close(got, expected[:, :41])


def test_an_attention_that_takes_no_mask_is_refused(
    llama: PreTrainedModel, random_ids: RandomIds, monkeypatch: pytest.MonkeyPatch
) -> None:
    (chunk,) = chunks_of(llama, (), random_ids(5))
    monkeypatch.setattr(llama.config, "_attn_implementation_internal", "flash_attention_2")
    with pytest.raises(
        ModelError, match="got attention implementation 'flash_attention_2', expected one of sdpa"
    ):
        blend(llama, (*chunk.record.token_ids, 1), [chunk])


def test_a_model_that_cannot_be_blended_is_refused(
    llama: PreTrainedModel, random_ids: RandomIds, monkeypatch: pytest.MonkeyPatch
) -> None:
    (chunk,) = chunks_of(llama, (), random_ids(5))
    monkeypatch.setattr(
        llama.config, "rope_parameters", {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    )
    with pytest.raises(NotBlendable, match="dynamic"):
        blend(llama, (*chunk.record.token_ids, 1), [chunk])


def test_keys_that_do_not_turn_as_the_rotary_module_says_are_refused(random_ids: RandomIds) -> None:
    model = tiny_model("llama")
    (chunk,) = chunks_of(model, (), random_ids(9))
    # The buffer now says something else than what the forward, bound to another module, does.
    model.model.rotary_emb.inv_freq = model.model.rotary_emb.inv_freq.flip(0)
    model.model.rotary_emb.forward = tiny_model("llama").model.rotary_emb.forward
    with pytest.raises(NotBlendable, match="do not turn as its rotary module says"):
        blend(model, (*chunk.record.token_ids, 1), [chunk])


def test_a_chunk_of_another_model_is_refused(llama: PreTrainedModel, random_ids: RandomIds) -> None:
    (chunk,) = chunks_of(llama, (), random_ids(9))
    other = ChunkKV(chunk.record, chunk.keys[:3], chunk.values[:3])
    with pytest.raises(
        RequestError, match=r"got chunk KV of torch.float32 \(3, 9, 2, 16\), .* \(4, 9, 2, 16\)"
    ):
        blend(llama, (*chunk.record.token_ids, 1), [other])


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_a_ratio_that_is_none_is_refused_even_when_nothing_is_known(
    llama: PreTrainedModel, ratio: float
) -> None:
    with pytest.raises(RequestError, match="expected a number from 0 to 1"):
        blend(llama, (1, 2, 3), [], recompute_ratio=ratio)
