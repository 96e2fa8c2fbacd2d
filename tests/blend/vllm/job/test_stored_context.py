"""Cached rows that were realigned for the question probe are what recomputing would have realigned itself."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from blend.chunks.chunk import ChunkKV, ChunkRecord, make_record
from blend.maths.rope import realign, rotation
from blend.plan.plan import REPEAT_TOKENS, EchoedRows, make_plan
from blend.store.tiers.memory import MemoryStore
from blend.vllm.job import stored_context as module
from blend.vllm.job.reading import Reading
from blend.vllm.job.stored_context import StoredContext, wanted_spans
from blend.vllm.messages import BlendTask

LAYERS, HEADS, SIZE = 3, 2, 4
PREFIX = make_record("m", (), (1, 2))
CHUNKS = [make_record("m", (1, 2), ids) for ids in ((10, 11, 12), (20, 21))]
WHOLE = make_plan((1, 2, 10, 11, 12, 20, 21, 30), [(0, PREFIX), (2, CHUNKS[0]), (5, CHUNKS[1])])
WITH_GAP = make_plan((1, 2, 10, 11, 12, 99, 20, 21, 30), [(0, PREFIX), (2, CHUNKS[0]), (6, CHUNKS[1])])


def chunk(record: ChunkRecord) -> ChunkKV:
    generator = torch.Generator().manual_seed(record.offset + record.token_ids[0])
    shape = (LAYERS, len(record.token_ids), HEADS, SIZE)
    return ChunkKV(record, torch.randn(shape, generator=generator), torch.randn(shape, generator=generator))


def context(plan: Any, start: int = 0, lost: tuple[str, ...] = ()) -> StoredContext:
    angle = torch.arange(16.0)[:, None] * torch.tensor([1.0, 0.1])
    runner: Any = SimpleNamespace(
        rotary_table=torch.cat([angle.cos(), angle.sin()], dim=1),
        rotary_interleaved=False,
        num_kv_heads=HEADS,
        head_size=SIZE,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    ranks: Any = SimpleNamespace(all_true=lambda flags: flags, own_heads=lambda heads, num_own: heads)
    task = BlendTask("r", plan, start, (0,), 0.5, "question-late", 0.05)
    wanted = wanted_spans(plan, 0)
    store = MemoryStore()
    records = [record for span in wanted for record in span.records]
    for record in records:
        if record.chunk_id not in lost:
            store.put(chunk(record))
    reading = Reading(store, records, LAYERS, background=False)
    assert reading.is_open()
    return StoredContext(task, wanted, reading, runner, ranks)


@pytest.mark.parametrize("plan", [WHOLE, WITH_GAP])
@pytest.mark.parametrize("first", [0, 2, 3, 6])
def test_rows_that_were_seen_before_are_the_same_and_writable(plan, first):
    seen, unseen = context(plan, start=first), context(plan, start=first)
    for layer in range(LAYERS):
        covered = seen.covered_at_layer(layer, room=2)
        for rows in covered:
            assert len(rows) == len(seen.covered()) + 2
            rows[-2:] = 7.0  # the probe's own rows
    for layer in range(LAYERS):
        for _ in range(2):  # given away at first, realigned anew then
            given, right = seen.at_layer(layer), unseen.at_layer(layer)
            for ours, theirs in zip(given, right, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
                ours.fill_(7)  # the caller's to write to


SHARED = tuple(range(20, 30))
FIRST, SECOND = make_record("m", (1, 2), (10, *SHARED)), make_record("m", (1, 2), (*SHARED, 40, 41))
ECHO = make_record("m", (1, 2, *SECOND.token_ids), SECOND.token_ids)
TWICE = make_plan(
    (1, 2, *FIRST.token_ids, 9, *SECOND.token_ids, 50),
    [(0, PREFIX), (2, FIRST), (14, SECOND)],
    lambda record: ECHO if record == SECOND else None,
)


@pytest.mark.parametrize("first", [0, 14, 20, 23, 25])
def test_rows_whose_text_stood_before_are_the_echo_s(first):
    again = slice(REPEAT_TOKENS - 1, len(SHARED))
    assert TWICE.spans[2].echoed == EchoedRows(ECHO, ((again.start, again.stop),))
    given, plain = context(TWICE, start=first), context(TWICE, start=first, lost=(ECHO.chunk_id,))
    assert (given.unreadable, plain.unreadable) == ((), (ECHO.chunk_id,))
    led, echo = chunk(SECOND), chunk(ECHO)
    for layer in range(LAYERS):
        (keys, values), (_, without) = given.at_layer(layer), plain.at_layer(layer)
        skipped = max(0, first - 14)  # of the second chunk
        expected = led.values[layer].clone()
        torch.testing.assert_close(without[-12 + skipped :], expected[skipped:], rtol=0, atol=0)
        expected[again] = echo.values[layer, again]
        torch.testing.assert_close(values[-12 + skipped :], expected[skipped:], rtol=0, atol=0)
        rotations = [rotation(given._runner.rotary_table, 14 - record.offset) for record in (SECOND, ECHO)]
        expected = realign(led.keys[layer], rotations[0])
        expected[again] = realign(echo.keys[layer], rotations[1])[again]
        torch.testing.assert_close(keys[-12 + skipped :], expected[skipped:])


def test_no_more_is_kept_than_the_limit(monkeypatch):
    seen = context(WHOLE)
    size = sum(rows.nbytes for rows in context(WHOLE).covered_at_layer(0))
    monkeypatch.setattr(module, "MAX_AHEAD_BYTES", 2 * size)
    kept = [seen.covered_at_layer(layer)[0] for layer in range(LAYERS)]
    given = [seen.at_layer(layer)[0] for layer in range(LAYERS)]
    same = [ours.data_ptr() == rows.data_ptr() for ours, rows in zip(given, kept, strict=True)]
    assert same == [True, True, False]
