"""Chunk KV computed in batches: each prefix once, and the numbers of each chunk computed alone."""

from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from blend.chunks.chunk import ChunkKV, PositionGap, make_record
from blend.chunks.versions import Prefixes
from blend.errors import RequestError
from blend.hf import blend, compute_chunk, compute_chunks
from blend.hf.decoder import decoder_of, kv_layout
from blend.maths.rope import realign, rotation
from tests.conftest import RandomIds
from tests.reference.prefill import full_prefill, prefill_at, rows_of
from tests.reference.tiny_models import FAMILIES, ODD_FAMILIES, tiny_model
from tests.support.tolerances import ROTATION, assert_close


def tokens_run(model: PreTrainedModel, *arguments: Any) -> tuple[list[ChunkKV], list[tuple[int, ...]]]:
    """Chunks, and the shape of each batch that went through the model for them."""
    shapes: list[tuple[int, ...]] = []
    handle = decoder_of(model).register_forward_pre_hook(
        lambda _module, _args, given: shapes.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    try:
        return compute_chunks(model, *arguments), shapes
    finally:
        handle.remove()


def test_chunks_behind_several_prefixes_are_the_prefills_behind_theirs(
    model: PreTrainedModel, random_ids: RandomIds
) -> None:
    one, other = random_ids(7), random_ids(40)
    shapes = ((one, 20), (other, 3), ((), 9), (one, 31), (other, 17), ((), 1))
    records = [make_record("tiny", prefix, random_ids(num)) for prefix, num in shapes]
    chunks = compute_chunks(model, records)
    assert [chunk.record for chunk in chunks] == records
    for chunk in chunks:
        prompt = chunk.record.prefix_ids + chunk.record.token_ids
        keys, values = full_prefill(model, prompt)
        assert_close(chunk.keys, keys[:, chunk.record.offset :])
        assert_close(chunk.values, values[:, chunk.record.offset :])


@pytest.mark.parametrize("family", ODD_FAMILIES)
def test_odd_families_too(family: str, random_ids: RandomIds) -> None:
    model, prefix = tiny_model(family), random_ids(12)
    chunk, _ = compute_chunks(model, [make_record("tiny", prefix, random_ids(num)) for num in (9, 20)])
    keys, values = full_prefill(model, prefix + chunk.record.token_ids)
    assert_close(chunk.keys, keys[:, 12:])
    assert_close(chunk.values, values[:, 12:])


@torch.no_grad()
@pytest.mark.parametrize("family", [*FAMILIES, *ODD_FAMILIES])
def test_across_a_position_gap_a_chunk_is_what_it_is_that_far_behind(
    family: str, random_ids: RandomIds
) -> None:
    model, prefix, lead, own = tiny_model(family), random_ids(7), random_ids(20), random_ids(30)
    position_gap = PositionGap(after=7, by=200)
    head, chunk = compute_chunks(
        model,
        [
            make_record("tiny", (), prefix + lead, position_gap),
            make_record("tiny", prefix + lead, own, position_gap),
        ],
    )
    keys, values = prefill_at(model, prefix + lead + own, [*range(7), *range(207, 257)])
    assert_close(torch.cat([head.values, chunk.values], dim=1), values)
    # As they are stored, keys turn to any place: here each to where it stood.
    layout = kv_layout(model, own, 300)
    behind = realign(torch.cat([head.keys[:, 7:], chunk.keys], dim=1), rotation(layout.table, 200))
    front = realign(head.keys[:, :7], rotation(layout.table, 200))
    if not layout.interleaved:
        assert_close(torch.cat([front, behind], dim=1), keys, ROTATION)
    (again,) = compute_chunks(model, [chunk.record], {(head.record.token_ids, position_gap): head})
    assert torch.equal(again.keys, chunk.keys) and torch.equal(again.values, chunk.values)
    (near,) = compute_chunks(model, [make_record("tiny", prefix + lead, own)])
    assert not torch.allclose(near.values, chunk.values, atol=1e-3), "it makes a difference"


@pytest.mark.parametrize("position_gap", [None, PositionGap(after=7, by=200)])
def test_an_echo_is_the_second_reading_of_its_chunk(
    model: PreTrainedModel, random_ids: RandomIds, position_gap: PositionGap | None
) -> None:
    behind, own, longer = random_ids(20), random_ids(11), random_ids(30)
    records = [
        make_record("tiny", behind, longer, position_gap),
        make_record("tiny", behind + own, own, position_gap),
        make_record("tiny", behind + longer, longer, position_gap),
    ]
    led, *echoes = compute_chunks(model, records)
    assert [chunk.record for chunk in (led, *echoes)] == records
    positions = range(20) if position_gap is None else [*range(7), *range(207, 220)]
    for chunk in echoes:
        both = chunk.record.token_ids * 2
        places = [*positions, *range(positions[-1] + 1, positions[-1] + 1 + len(both))]
        _, values = prefill_at(model, behind + both, places)
        assert_close(chunk.values, values[:, -len(both) // 2 :])
    assert not torch.allclose(led.values, echoes[1].values, atol=1e-3), "it makes a difference"


def test_a_prefix_runs_once_for_all_its_chunks_and_never_when_it_is_known(
    llama: PreTrainedModel, random_ids: RandomIds
) -> None:
    prefix = random_ids(40)
    known = {(prefix, None): compute_chunk(llama, make_record("tiny", (), prefix))}
    records = [make_record("tiny", prefix, random_ids(num)) for num in (5, 11, 8)]
    computed, shapes = tokens_run(llama, records)
    assert shapes == [(1, 40), (3, 11)]
    given, shapes = tokens_run(llama, records, known)
    assert shapes == [(3, 11)]
    for a, b in zip(computed, given, strict=True):
        assert torch.equal(a.keys, b.keys)
        assert torch.equal(a.values, b.values)


def test_a_known_prefix_is_not_written_to_and_not_kept_alive(
    llama: PreTrainedModel, random_ids: RandomIds
) -> None:
    prefix = compute_chunk(llama, make_record("tiny", (), random_ids(6)))
    before = prefix.keys.clone(), prefix.values.clone()
    ids = prefix.record.token_ids
    (chunk,) = compute_chunks(llama, [make_record("tiny", ids, random_ids(4))], {(ids, None): prefix})
    assert torch.equal(prefix.keys, before[0]) and torch.equal(prefix.values, before[1])
    assert chunk.keys.untyped_storage().nbytes() == chunk.keys.nbytes


def test_kv_of_other_tokens_is_no_prefix(llama: PreTrainedModel, random_ids: RandomIds) -> None:
    ids = random_ids(6)
    record = make_record("tiny", ids, random_ids(4))
    for wrong in (make_record("tiny", (), random_ids(6)), make_record("tiny", random_ids(2), ids)):
        with pytest.raises(RequestError, match="for a prefix of 6 tokens"):
            compute_chunks(llama, [record], {(ids, None): compute_chunk(llama, wrong)})


def test_a_blend_takes_the_plain_version_first_and_led_ones_behind_it(
    model: PreTrainedModel, random_ids: RandomIds
) -> None:
    prefixes = Prefixes("tiny", random_ids(6), random_ids(30), max_tokens=512)
    a, b = prefixes.versions(random_ids(20)), prefixes.versions(random_ids(15))
    records = [record for record in (prefixes.prefix, *a.records, *b.records) if record is not None]
    known = compute_chunks(model, records)
    prompt = (*prefixes.prefix_ids, *a.plain.token_ids, *b.plain.token_ids, 1)
    done = blend(model, prompt, known, recompute_ratio=0.0)
    assert b.led is not None
    used = [use.chunk_id for use in done.stats.chunks]
    assert used[1:] == [a.plain.chunk_id, b.led.chunk_id]
    assert (done.stats.counts.exact_tokens, done.stats.counts.reused_tokens) == (26, 15)
    keys, values = rows_of(done.cache)
    led = next(chunk for chunk in known if chunk.record == b.led)
    assert_close(values[:, 26:], led.values)
    # Layer 0 depends on the token alone, so its keys say that the led rows were moved to the right place.
    expected, _ = full_prefill(model, prompt)
    assert_close(keys[0], expected[0, : len(prompt) - 1], ROTATION)
    everything = blend(model, prompt, known, recompute_ratio=1.0)
    for got, full in zip(rows_of(everything.cache), full_prefill(model, prompt), strict=True):
        assert_close(got, full[:, : len(prompt) - 1])
