"""A blend takes rows of a chunk's second reading where the prompt holds the text twice."""

import torch
from transformers import PreTrainedModel

from blend.chunks.versions import Prefixes
from blend.hf import blend, compute_chunks
from blend.plan.plan import REPEAT_TOKENS
from tests.conftest import RandomIds
from tests.reference.prefill import full_prefill, rows_of
from tests.support.tolerances import ROTATION, assert_close


def test_rows_whose_text_stood_before_are_the_echo_s(model: PreTrainedModel, random_ids: RandomIds) -> None:
    prefixes, shared = Prefixes("tiny", random_ids(6), random_ids(30), max_tokens=512), random_ids(16)
    one, other = (prefixes.versions(ids) for ids in (random_ids(9) + shared, shared + random_ids(8)))
    records = [prefixes.prefix, *one.records, *other.records, one.echo, other.echo]
    chunks = compute_chunks(model, [record for record in records if record is not None])
    prompt = (*prefixes.prefix_ids, *one.plain.token_ids, 1, *other.plain.token_ids, 2)
    start, num = len(prefixes.prefix_ids) + one.plain.num_tokens + 1, other.plain.num_tokens
    done = blend(model, prompt, chunks, recompute_ratio=0.0, selector="first")
    assert [use.start for use in done.stats.chunks][1:] == [6, start]
    by_id = {chunk.record: chunk for chunk in chunks}
    led, echo = by_id[other.led], by_id[other.echo]
    again = torch.zeros(num, dtype=torch.bool)
    again[REPEAT_TOKENS - 1 : len(shared)] = True
    keys, values = (rows[:, start:] for rows in rows_of(done.cache))
    assert torch.equal(values[:, again], echo.values[:, again])
    assert torch.equal(values[:, ~again], led.values[:, ~again])
    # Layer 0 depends on the token alone, so its keys say that both kinds of rows were moved to their places.
    full = full_prefill(model, prompt)[0][:, start : start + num]
    assert_close(keys[0], full[0], ROTATION)
    without = blend(model, prompt, [c for c in chunks if c.record != other.echo], recompute_ratio=0.0)
    assert torch.equal(rows_of(without.cache)[1][:, start:], led.values)


def test_at_ratio_1_it_is_full_prefill(model: PreTrainedModel, random_ids: RandomIds) -> None:
    prefixes = Prefixes("tiny", random_ids(6), random_ids(30), max_tokens=512)
    text = prefixes.versions(random_ids(25))
    records = [prefixes.prefix, *text.records, text.echo]
    chunks = compute_chunks(model, [record for record in records if record is not None])
    prompt = (*prefixes.prefix_ids, *text.plain.token_ids, 1, *text.plain.token_ids, 2)
    everything = blend(model, prompt, chunks, recompute_ratio=1.0)
    for got, full in zip(rows_of(everything.cache), full_prefill(model, prompt), strict=True):
        assert_close(got, full[:, : len(prompt) - 1], ROTATION)
