"""End to end: the real engine, the real model, real text."""

import asyncio
import random
import re
import shlex
import uuid
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch

from api.cli.main import main
from blend import BlendError, Engine
from blend.errors import RequestError
from blend.vllm.engine.answer import Answer, Ask
from blend.vllm.gate.verdict_file import GateFile
from blend.vllm.request_params import BlendParams
from blend.vllm.worker.chunk_calls import as_batch, stored_bytes
from blend.vllm.worker.computing import SLICE_TOKENS
from tests.blend.vllm.conftest import PREFIX
from tests.support.doc_blocks import in_group

pytestmark = [pytest.mark.engine, pytest.mark.model]

FULL = BlendParams(enabled=False)

TIE_NATS = {"float32": 1e-3, "bfloat16": 0.2}
"""Between the two likeliest tokens, by dtype: so little decides nothing."""


def ask(engine: Engine, question: str, chunks: Sequence[str], **options: Any) -> Ask:
    options = {"prefix": PREFIX, "max_tokens": 16} | options
    return fresh(engine.ask(question, chunks, **options))


def fresh(request: Ask) -> Ask:
    """The same request under a salt of its own: no other request's blocks can serve it."""
    return replace(request, cache_salt=uuid.uuid4().hex)


def full(request: Ask) -> Ask:
    return fresh(replace(request, params=FULL))


def parts_at_a_tie(engine: Engine, request: Ask, one: Answer, other: Answer) -> bool:
    """Whether two answers are the same up to a token where full prefill itself can hardly tell two apart.

    Answers that are computed in other batches differ by the rounding of the engine's dtype.
    """
    if one.token_ids == other.token_ids:
        return True
    num = next(i for i, (a, b) in enumerate(zip(one.token_ids, other.token_ids, strict=False)) if a != b)
    said = (*request.prompt_ids, *one.token_ids[:num])
    there = engine.submit(replace(full(request), prompt_ids=said, max_tokens=1, logprobs=5))
    assert there.first_logprobs is not None
    first, second, *_ = sorted(there.first_logprobs.values(), reverse=True)
    print(f"they part at token {num}, whose two likeliest are {first - second:.3f} nats apart")
    return first - second < TIE_NATS[str(engine.setup.arguments["dtype"])]


def adds_up(answer: Answer) -> bool:
    stats = answer.stats
    parts = (
        stats.counts.exact_tokens
        + stats.counts.reused_tokens
        + stats.counts.recomputed_tokens
        + stats.counts.cold_tokens
    )
    return parts == stats.context_tokens


def test_the_default_model_passes_its_self_check(engine: Engine) -> None:
    verdict = GateFile(engine.setup.settings.verdict_file).read()
    assert verdict is not None and verdict.passed, verdict
    assert verdict.exact_matches == verdict.num_prompts
    assert verdict.exact_kl < 1e-4 and verdict.default_kl <= verdict.reuse_kl


def test_recomputing_everything_gives_the_full_prefills_text_for_ten_prompts(
    engine: Engine, passages: list[str]
) -> None:
    chunks = engine.precompute(passages[:8], prefix=PREFIX)
    for number in range(10):
        some = random.Random(number).sample(chunks, 4)
        request = ask(engine, "What do these documents say?", some, recompute_ratio=1.0)
        exact, reference = engine.submit(request), engine.submit(full(request))
        assert exact.stats.fallback is None and exact.stats.counts.reused_tokens == 0 and adds_up(exact)
        assert parts_at_a_tie(engine, request, exact, reference), f"prompt {number}"
        assert reference.stats.fallback is not None and reference.prefix_hit_tokens == 0


def test_a_namespaces_chunks_blend_its_own_requests_alone(engine: Engine, passages: list[str]) -> None:
    common = engine.precompute(passages[20:21], prefix=PREFIX)
    own = passages[21:23]
    workers = engine._thread  # a tenant's own engine would be one more engine to start
    batch = [engine.encode(text) for text in own]
    stored = workers.rpc("compute_chunks", (list(engine.prefix_ids(PREFIX)), None, False), batch, "acme")
    assert stored_bytes(*stored) > 0
    request = ask(engine, "What do these say?", [*own, *common], recompute_ratio=0.1)
    answers = {}
    for name in ("", "acme", "other"):
        params = replace(request.params, namespace=name)
        answers[name] = engine.submit(fresh(replace(request, params=params)))
    shared = [use.chunk_id for use in answers[""].stats.chunks]
    assert common[0] in shared and shared == [use.chunk_id for use in answers["other"].stats.chunks]
    assert len(answers["acme"].stats.chunks) == len(shared) + len(own)
    assert answers["acme"].stats.counts.reused_tokens > answers[""].stats.counts.reused_tokens
    assert all(adds_up(answer) and answer.stats.fallback is None for answer in answers.values())


def test_eight_at_once_in_different_orders_each_give_what_they_give_alone(
    engine: Engine, passages: list[str]
) -> None:
    chunks = engine.precompute(passages[:8], prefix=PREFIX)
    requests = [
        ask(engine, "Which of these is about memory?", random.Random(seed).sample(chunks, 4))
        for seed in range(8)
    ]
    alone = [engine.submit(request) for request in requests]

    async def at_once() -> list[Answer]:
        return list(await asyncio.gather(*(engine.asubmit(fresh(request)) for request in requests)))

    together = asyncio.run(at_once())
    assert all(answer.stats.fallback is None and answer.stats.counts.reused_tokens > 0 for answer in together)
    for request, one, other in zip(requests, together, alone, strict=True):
        assert parts_at_a_tie(engine, request, one, other)


def test_a_question_before_the_documents_is_a_gap_and_is_computed(
    engine: Engine, passages: list[str]
) -> None:
    chunks = engine.precompute(passages[:3], prefix=PREFIX)
    question = engine.encode("What is the KV cache? Read this first.\n\n")
    documents = [token for chunk in chunks for token in engine.store.record(chunk).token_ids]  # type: ignore[union-attr]
    tail = engine.encode("\n\nAnswer:")
    ids = (*engine.prefix_ids(PREFIX), *question, *documents, *tail)
    request = replace(ask(engine, "unused", []), prompt_ids=ids)
    answer = engine.submit(request)
    assert answer.stats.counts.cold_tokens == len(question) and adds_up(answer)
    # The chunks stand behind the question now, not behind what they were computed behind.
    assert answer.stats.counts.exact_tokens == len(engine.prefix_ids(PREFIX))
    assert answer.stats.counts.reused_tokens > 0.8 * len(documents)
    everything = engine.submit(fresh(replace(request, params=BlendParams(recompute_ratio=1.0))))
    assert parts_at_a_tie(engine, request, everything, engine.submit(full(request)))


def test_an_unknown_chunk_in_the_middle_is_computed_whole(engine: Engine, passages: list[str]) -> None:
    first, last = engine.precompute([passages[0], passages[1]], prefix=PREFIX)
    unknown = "The lighthouse keeper's cat is called Bartholomew, and it is nine years old. " * 3
    request = ask(engine, "What is the cat called?", [first, unknown, last])
    answer = engine.submit(request)
    assert len(engine.encode(unknown)) <= answer.stats.counts.cold_tokens <= len(engine.encode(unknown)) + 4
    assert answer.stats.counts.reused_tokens > 0 and adds_up(answer)
    assert "Bartholomew" in answer.text
    everything = engine.submit(fresh(replace(request, params=BlendParams(recompute_ratio=1.0))))
    assert parts_at_a_tie(engine, request, everything, engine.submit(full(request)))


def test_the_same_request_again_is_a_free_hit_and_a_plain_one_never_sees_it(
    engine: Engine, passages: list[str]
) -> None:
    chunks = engine.precompute(passages[4:9], prefix=PREFIX)
    blended = replace(ask(engine, "What is this about?", chunks), cache_salt=None, logprobs=20)
    reference = engine.submit(full(blended))
    first = engine.submit(blended)
    plain = engine.submit(replace(blended, params=FULL))
    again = engine.submit(blended)
    assert plain.prefix_hit_tokens == 0, "a plain request was served blended blocks"
    assert parts_at_a_tie(engine, blended, plain, reference)
    assert again.token_ids == first.token_ids and again.first_logprobs == first.first_logprobs
    assert first.stats.counts.recomputed_tokens > 0
    assert again.stats.counts.reused_tokens == first.stats.context_tokens and adds_up(again)
    other = engine.submit(replace(blended, params=BlendParams(recompute_ratio=0.4)))
    assert other.stats.counts.recomputed_tokens > first.stats.counts.recomputed_tokens


def test_a_prompt_that_is_one_chunk_exactly_leaves_its_last_token_to_the_engine(
    engine: Engine, passages: list[str]
) -> None:
    (chunk,) = engine.precompute([passages[10]], prefix=PREFIX)
    record = engine.store.record(chunk)
    assert record is not None
    request = replace(ask(engine, "unused", []), prompt_ids=record.prefix_ids + record.token_ids)
    answer = engine.submit(request)
    assert answer.stats.counts.exact_tokens == len(request.prompt_ids) - 1
    assert parts_at_a_tie(engine, request, answer, engine.submit(full(request)))
    alone = replace(request, prompt_ids=record.token_ids)
    assert engine.submit(alone).stats.context_tokens == record.num_tokens - 1


def test_the_same_chunk_twice_and_a_chunk_longer_than_a_block_by_one(
    engine: Engine, passages: list[str]
) -> None:
    long = engine.tokenizer.decode(engine.encode(" ".join(passages))[:129])
    short, other = engine.precompute([passages[11], long], prefix=PREFIX)
    request = ask(engine, "Say it again.", [short, other, short], recompute_ratio=1.0)
    answer = engine.submit(request)
    assert [use.chunk_id for use in answer.stats.chunks[-3:]] == [short, other, short]
    assert parts_at_a_tie(engine, request, answer, engine.submit(full(request)))


def test_a_request_that_is_aborted_while_it_blends_leaves_nothing_behind(
    engine: Engine, passages: list[str]
) -> None:
    chunks = engine.precompute(passages[:20], prefix=PREFIX)
    request = ask(engine, "What is this about?", chunks, recompute_ratio=0.6)
    whole = engine.submit(request)
    expected = whole.text

    async def leave_early() -> None:
        for share in (0.0, 0.1, 0.4, 0.8):  # of what a blend takes here; the answer follows it
            running = asyncio.ensure_future(engine.asubmit(fresh(request)))
            await asyncio.sleep(share * whole.ttft_ms / 1e3)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            # Each look is answered between two steps: the first may come before the abort, or its step.
            assert [engine.blends_in_flight() for _ in range(3)][-1] == 0

    asyncio.run(leave_early())
    assert engine.submit(fresh(request)).text == expected
    assert engine.blends_in_flight() == 0
    assert engine.reset_prefix_cache(), "blocks are still held"


def test_leaving_a_stream_early_frees_the_engine(engine: Engine, passages: list[str]) -> None:
    chunks = engine.precompute(passages[:3], prefix=PREFIX)
    stream = engine.stream("What is this about?", chunks, prefix=PREFIX, max_tokens=200)
    assert next(stream).text
    stream.close()  # type: ignore[attr-defined]
    assert engine.generate("What is this about?", chunks, prefix=PREFIX, max_tokens=4).stats.fallback is None
    assert engine.reset_prefix_cache()


def test_a_stream_is_the_answer_piece_by_piece(engine: Engine, passages: list[str]) -> None:
    chunks = engine.precompute(passages[:3], prefix=PREFIX)
    deltas = list(engine.stream("What is this about?", chunks, prefix=PREFIX, max_tokens=12))
    last = deltas[-1].answer
    assert last is not None and len(deltas) > 3
    assert "".join(delta.text for delta in deltas) == last.text
    assert last.stats.counts.reused_tokens > 0 and last.ttft_ms > 0

    async def streamed() -> str:
        options = {"prefix": PREFIX, "max_tokens": 12}
        return "".join([d.text async for d in engine.astream("What is this about?", chunks, **options)])

    assert asyncio.run(streamed()) == last.text


def test_a_chunk_is_blended_from_its_plain_version_first_and_from_its_led_one_elsewhere(
    engine: Engine, passages: list[str]
) -> None:
    chunks = engine.precompute(passages[14:17], prefix=PREFIX)
    prefixes = engine.prefixes(PREFIX)
    for text, chunk in zip(passages[14:17], chunks, strict=True):
        plain, led = prefixes.versions(engine.encode(text)).records
        assert plain.chunk_id == chunk
        for record in (plain, led):
            stored = engine.store.get(record)
            assert stored is not None and stored.record.offset == record.offset
    answer = engine.submit(ask(engine, "What is this about?", chunks, recompute_ratio=0.0))
    first = len(prefixes.prefix_ids) + len(engine.encode(passages[14]))
    assert answer.stats.counts.exact_tokens == first and adds_up(answer)
    assert [use.chunk_id for use in answer.stats.chunks[-3:]] == chunks, "answers name the plain versions"


def test_a_chunk_damaged_on_disk_is_detected_computed_cold_and_known_again_when_stored_again(
    engine: Engine, passages: list[str]
) -> None:
    texts = [passages[20], passages[21], passages[22]]
    chunks = engine.precompute(texts, prefix=PREFIX)
    # Behind another chunk, it is its led version that is read.
    _, led = engine.prefixes(PREFIX).versions(engine.encode(texts[1])).records
    path = engine.store.root / f"{led.chunk_id}.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)
    record = engine.store.record(chunks[1])
    assert record is not None
    request = ask(engine, "What is this about?", chunks)
    answer = engine.submit(request)
    assert record.num_tokens <= answer.stats.counts.cold_tokens <= record.num_tokens + 4 and adds_up(answer)
    assert answer.stats.fallback is None and not path.exists()
    again = engine.precompute(texts, prefix=PREFIX)
    assert again == chunks and path.exists()
    assert engine.submit(fresh(request)).stats.counts.cold_tokens <= 4


def test_bad_requests_are_refused_with_what_was_got_and_what_was_expected(engine: Engine) -> None:
    with pytest.raises(RequestError, match=r"1\.5.*0 to 1"):
        engine.generate("What?", [], recompute_ratio=1.5)
    with pytest.raises(RequestError, match="nobody.*deviation"):
        engine.generate("What?", [], selector="nobody")
    with pytest.raises(RequestError, match="empty question"):
        engine.generate("  ", [])
    with pytest.raises(RequestError, match="4096"):
        engine.generate("What?", ["word " * 5000])
    with pytest.raises(BlendError, match="empty chunk"):
        engine.precompute([""])


def test_chunks_computed_in_slices_while_another_request_decodes_are_what_they_are_at_once(
    engine: Engine, passages: list[str]
) -> None:
    prefixes = engine.prefixes(PREFIX)
    records = [prefixes.versions(engine.encode(text)).plain for text in passages[20:23]]
    assert sum(record.num_tokens for record in records) > 2 * SLICE_TOKENS
    engine.compute(records)
    at_once = [engine.store.get(record) for record in records]
    for record in records:
        engine.store.delete(record.chunk_id)
    stream = engine.stream("Tell a long story of a lighthouse.", prefix="Be a storyteller.", max_tokens=40)
    next(stream)
    engine._thread.rpc("begin_computing", *as_batch(records), "")
    calls, stored = 0, None
    while stored is None:
        _, stored = engine._thread.rpc("advance_computing", None if calls % 2 else 0.0)
        calls += 1
    text = "".join(delta.text for delta in stream)
    assert calls > 4 and len(text) > 20
    chunks = [engine.store.get(record) for record in records]
    assert stored_bytes(*stored) == sum(chunk.num_bytes for chunk in chunks if chunk is not None)
    for sliced, whole in zip(chunks, at_once, strict=True):
        assert sliced is not None and whole is not None
        torch.testing.assert_close(sliced.keys, whole.keys, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(sliced.values, whole.values, rtol=1e-3, atol=1e-3)


@pytest.fixture
def shared(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """The engine for code that starts one of its own: it is the same, and a start takes half a minute."""
    for name in ("blend.Engine", "blend.vllm.engine.engine.Engine"):
        monkeypatch.setattr(name, lambda *args, **options: nullcontext(engine))
    return engine


def test_the_doctor_of_the_readme_passes_and_leaves_no_chunk(
    shared: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = set(shared.store.ids())
    [command] = [
        command for block in in_group("engine") if block.language == "console" for command in block.commands
    ]
    assert main(shlex.split(command)[1:]) == 0
    assert re.search(r"passed +True", capsys.readouterr().out)
    assert set(shared.store.ids()) == stored


def test_the_pages_example_of_the_engine(shared: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    [example] = [block for block in in_group("engine") if block.language == "python"]
    exec(example.source, {"__name__": "__main__"})
    printed = capsys.readouterr().out
    assert "North Sea" in printed and int(printed.split()[-1]) > 0
