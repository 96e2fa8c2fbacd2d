"""The engine's blend against the Hugging Face reference, on tiny random models of every family."""

import asyncio
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
import torch
from prometheus_client import REGISTRY
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from blend import Engine
from blend.chunks.chunk import ChunkKV, ChunkRecord, Leap, make_record
from blend.hf import blend, compute_chunks
from blend.hf.blender import HFBlend
from blend.plan.sharing import Sharing
from blend.store.file_format.byte_source import HeldBytes
from blend.store.file_format.chunk_file import read_parts
from blend.vllm.engine.answer import Answer, Ask
from blend.vllm.gate.verdict_file import Calibration, GateFile, Verdict
from blend.vllm.request_params import BlendParams
from blend.vllm.version import installed_vllm
from tests.reference.tiny_models import FAMILIES, VOCAB_SIZE, tiny_model
from tests.support.tolerances import ROTATION, assert_close
from tests.support.workers import cores

pytestmark = pytest.mark.engine

HEAD_SIZE = 32  # the smallest that vLLM's attention for CPUs takes
BLOCK_SIZE = 32
DEVICE_BYTES = 1 << 24
# An engine's start takes most of the time, so one family stands for two tensor-parallel ranks as well.
CASES = [
    (family, 2 if family == "llama" else 1, "dense" if number % 2 else "paged")
    for number, family in enumerate(FAMILIES, start=1)
]


@dataclass(frozen=True, slots=True)
class Pair:
    """One model on both sides, with the same chunks known to each."""

    engine: Engine
    attention: str
    model: PreTrainedModel
    prefix: ChunkRecord
    records: tuple[ChunkRecord, ...]
    chunks: tuple[ChunkKV, ...]


def ids(num: int, seed: int) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(VOCAB_SIZE, (num,), generator=generator).tolist())


def save(model: PreTrainedModel, folder: Path) -> None:
    model.save_pretrained(folder)
    # The prompts are token ids, so any tokenizer will do: single bytes.
    characters = {character: i for i, character in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = Tokenizer(BPE(characters, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-tp{case[1]}-{case[2]}")
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    family, num_ranks, attention = request.param
    model = tiny_model(family, head_size=HEAD_SIZE)
    folder = tmp_path_factory.mktemp(family)
    save(model, folder / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_OMP_THREADS_BIND", "|".join(map(str, cores()[:num_ranks])))
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        patch.setenv("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")  # functions of ours run in the workers
        with Engine(
            str(folder / "model"),
            folder / "store",
            self_check=False,
            codec="raw",  # exact rows are the reference's to the bit
            block_size=BLOCK_SIZE,
            max_model_len=512,
            num_gpu_blocks_override=32,
            max_num_batched_tokens=64,  # so small that every blend runs in several pieces
            max_num_seqs=8,
            tensor_parallel_size=num_ranks,
            attention=attention,
            sharing=Sharing.TOPPED_UP,
            always_blends=True,
            device_bytes=DEVICE_BYTES if num_ranks > 1 or attention == "dense" else "auto",
            disable_log_stats=False,
        ) as engine:
            # Longer than a block, so that chunks computed together share one of its blocks.
            prefix = make_record(engine.fingerprint, (), ids(BLOCK_SIZE + 7, seed=0))
            records = tuple(
                make_record(engine.fingerprint, prefix.token_ids, ids(num, seed))
                for seed, num in enumerate((40, BLOCK_SIZE + 1, 25), start=1)
            )
            engine.compute(records)
            yield Pair(
                engine, attention, model, prefix, records, tuple(compute_chunks(model, [prefix, *records]))
            )


def ask(pair: Pair, prompt: tuple[int, ...], ratio: float, selector: str, max_tokens: int = 4) -> Ask:
    key = pair.engine.setup.settings.gate_key
    params = BlendParams(recompute_ratio=ratio, selector=selector, gate_key=key)
    return Ask(prompt, params, max_tokens, 0.0, uuid.uuid4().hex, logprobs=20)


def prompt_of(
    pair: Pair, order: tuple[int, ...], unknown: tuple[int, ...] = (), question: int = 99
) -> tuple[int, ...]:
    first, *others = (pair.records[i].token_ids for i in order)
    joined = [token for chunk in (first, unknown, *others) for token in (*chunk, 3)]
    return (*pair.prefix.token_ids, *joined, *ids(6, seed=question))


def reference(
    pair: Pair, prompt: tuple[int, ...], ratio: float, selector: str
) -> tuple[torch.Tensor, list[int]]:
    """Log-probabilities of the first token, and greedy tokens, from the Hugging Face blend."""
    return generated(
        pair, prompt, blend(pair.model, prompt, pair.chunks, recompute_ratio=ratio, selector=selector)
    )


def generated(pair: Pair, prompt: tuple[int, ...], blended: HFBlend) -> tuple[torch.Tensor, list[int]]:
    """What is generated from a blend that is the beginning of the prompt."""
    done = pair.model.generate(
        torch.tensor([prompt]),
        past_key_values=blended.cache,
        max_new_tokens=4,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return torch.log_softmax(done.logits[0][0], -1), done.sequences[0, len(prompt) :].tolist()


def agrees(answer: Answer, logprobs: torch.Tensor) -> None:
    assert answer.first_logprobs is not None
    tokens = list(answer.first_logprobs)
    got = torch.tensor([answer.first_logprobs[token] for token in tokens])
    torch.testing.assert_close(got, logprobs[tokens], rtol=1e-3, atol=1e-3)


def test_chunk_kv_is_the_reference_s(pair: Pair) -> None:
    for chunk in pair.chunks:
        stored = pair.engine.store.get(chunk.record)
        assert stored is not None, "the prefix is stored beside its chunks"
        assert_close(stored.keys, chunk.keys)
        assert_close(stored.values, chunk.values)


def test_text_that_comes_again_is_the_reference_s(pair: Pair) -> None:
    engine, prefix_ids = pair.engine, pair.prefix.token_ids
    own = pair.records[0].token_ids[-20:] + ids(12, seed=8)
    chunk, echo = (make_record(engine.fingerprint, behind, own) for behind in (prefix_ids, prefix_ids + own))
    engine.compute([chunk])
    computed, right = compute_chunks(pair.model, [chunk, echo])
    # A tiny model's echo differs little from its chunk: one that differs more shows whose rows are taken.
    loud = ChunkKV(echo, right.keys, 5 * right.values)
    engine.store.put(loud)
    known = (computed, loud)
    prompt = (*prefix_ids, *pair.records[0].token_ids, 3, *own, 3, *ids(6, seed=99))
    deadline = time.monotonic() + 30
    while (answer := engine.submit(ask(pair, prompt, 0.0, "first"))).stats.cold_tokens > 2:
        assert time.monotonic() < deadline, answer.stats  # new chunks are seen within a second
    for ratio, selector in ((0.0, "first"), (0.1, "question-late")):
        blended, without = (
            blend(pair.model, prompt, (*pair.chunks, *some), recompute_ratio=ratio, selector=selector)
            for some in (known, known[:1])
        )
        expected = generated(pair, prompt, blended)[0]
        agrees(engine.submit(ask(pair, prompt, ratio, selector)), expected)
        assert not torch.allclose(expected, generated(pair, prompt, without)[0], atol=1e-3), "it counts"
    for record in (chunk, echo):
        engine.store.delete(record.chunk_id)


@pytest.mark.parametrize("leap", [None, Leap(after=5, by=200)])
def test_an_echo_is_the_reference_s(pair: Pair, leap: Leap | None) -> None:
    engine, own = pair.engine, [ids(num, seed=num) for num in (18, 37)]
    head, *echoes = (
        make_record(engine.fingerprint, behind, chunk, leap)
        for behind, chunk in [
            ((), pair.prefix.token_ids),
            *((pair.prefix.token_ids + chunk, chunk) for chunk in own),
        ]
    )
    engine.compute(echoes)
    for chunk in compute_chunks(pair.model, echoes):
        stored = engine.store.get(chunk.record)
        assert stored is not None and stored.record == chunk.record
        assert_close(stored.keys, chunk.keys, ROTATION)
        assert_close(stored.values, chunk.values)
    for record in (head, *echoes):
        if record != pair.prefix:
            engine.store.delete(record.chunk_id)


def test_chunk_kv_over_a_leap_is_the_reference_s(pair: Pair) -> None:
    engine, prefix_ids = pair.engine, pair.prefix.token_ids
    behind, leap = prefix_ids + ids(20, seed=5), Leap(after=len(prefix_ids), by=200)
    head = make_record(engine.fingerprint, (), behind, leap)
    one, other = (make_record(engine.fingerprint, behind, ids(num, num), leap) for num in (30, 9))
    engine.compute([one])  # what it stands behind is computed and stored on the way
    engine.compute([other])
    for chunk in compute_chunks(pair.model, [head, one, other]):
        stored = engine.store.get(chunk.record)
        assert stored is not None and stored.record == chunk.record
        assert_close(stored.keys, chunk.keys, ROTATION)
        assert_close(stored.values, chunk.values)
    engine.store.delete(head.chunk_id)
    engine.compute([head])  # as a job has it computed, by itself
    again = engine.store.get(head)
    assert again is not None
    assert_close(again.values, compute_chunks(pair.model, [head])[0].values)
    for record in (head, one, other):
        engine.store.delete(record.chunk_id)


@pytest.mark.parametrize("selector", ["deviation", "first", "question-late", "all"])
@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
def test_the_first_token_is_the_reference_s(pair: Pair, ratio: float, selector: str) -> None:
    prompt = prompt_of(pair, (2, 0, 1))
    answer = pair.engine.submit(ask(pair, prompt, ratio, selector))
    assert answer.stats.fallback is None
    logprobs, tokens = reference(pair, prompt, ratio, selector)
    agrees(answer, logprobs)
    assert list(answer.token_ids) == tokens
    expected = blend(pair.model, prompt, pair.chunks, recompute_ratio=ratio, selector=selector).stats
    for kind in ("exact_tokens", "reused_tokens", "recomputed_tokens", "cold_tokens", "context_tokens"):
        assert getattr(answer.stats, kind) == getattr(expected, kind), kind


def test_all_ranks_read_and_write_the_files_of_one_process(pair: Pair) -> None:
    record = make_record(pair.engine.fingerprint, pair.prefix.token_ids, ids(37, seed=7))
    chunk = compute_chunks(pair.model, [pair.prefix, record])[1]
    pair.engine.store.put(chunk)  # as a process of one rank writes it: all heads
    one, other = (pair.engine.store.path(each.chunk_id) for each in (record, pair.records[0]))
    shapes = [
        read_parts(HeldBytes(bytearray(path.read_bytes())), path.stem)["kv"].shape for path in (one, other)
    ]
    assert [(*shape[:2], *shape[3:]) for shape in shapes] == 2 * [(*shapes[0][:2], *shapes[0][3:])]
    prompt = (*pair.prefix.token_ids, *pair.records[1].token_ids, 3, *record.token_ids, 3, *ids(6, seed=99))
    deadline = time.monotonic() + 30
    while (answer := pair.engine.submit(ask(pair, prompt, 0.0, "first"))).stats.cold_tokens > 2:
        assert time.monotonic() < deadline, answer.stats  # new chunks are seen within a second
    blended = blend(pair.model, prompt, (*pair.chunks, chunk), recompute_ratio=0.0, selector="first")
    agrees(answer, generated(pair, prompt, blended)[0])


def test_hot_chunks_lie_on_the_device_with_the_heads_of_their_rank(pair: Pair) -> None:
    pair.engine.submit(ask(pair, prompt_of(pair, (2, 0, 1)), 0.3, "question-late"))
    num_ranks = int(pair.engine.setup.arguments["tensor_parallel_size"])
    heads = max(1, int(pair.chunks[0].keys.shape[2]) // num_ranks)
    has_tier = pair.engine.setup.settings.store.device_bytes != "auto"
    for held in in_workers(pair, _heads_on_device):
        assert held == (str(heads) if has_tier else "no such tier")


def test_an_unknown_chunk_in_the_middle_and_a_repeated_one(pair: Pair) -> None:
    prompt = prompt_of(pair, (1, 2, 1), unknown=ids(30, seed=50))
    for ratio in (0.5, 1.0):
        answer = pair.engine.submit(ask(pair, prompt, ratio, "deviation"))
        agrees(answer, reference(pair, prompt, ratio, "deviation")[0])
    plain = pair.model(torch.tensor([prompt])).logits[0, -1]
    agrees(answer, torch.log_softmax(plain, -1))


def test_another_question_tops_up_what_the_first_one_left(pair: Pair) -> None:
    first, other = (prompt_of(pair, (2, 0, 1), question=seed) for seed in (99, 98))
    asked = ask(pair, first, 0.3, "question-late")
    blended = blend(pair.model, first, pair.chunks, recompute_ratio=0.3, selector="question-late")
    pair.engine.submit(asked)
    answer = pair.engine.submit(replace(asked, prompt_ids=other))
    if pair.attention == "paged":  # rows in pages cannot be read back
        assert answer.stats.recomputed_tokens == blended.stats.recomputed_tokens
        agrees(answer, reference(pair, other, 0.3, "question-late")[0])
        return
    expected = blend(
        pair.model, other, pair.chunks, recompute_ratio=0.3, selector="question-late", onto=blended
    )
    assert 0 < answer.stats.recomputed_tokens == expected.stats.recomputed_tokens
    assert answer.stats.cold_tokens == expected.stats.cold_tokens == 0
    agrees(answer, generated(pair, other, expected)[0])
    # Both questions again: the first finds its own rows, and so does the second.
    for prompt in (first, other):
        again = pair.engine.submit(replace(asked, prompt_ids=prompt))
        assert again.stats.recomputed_tokens < BLOCK_SIZE and again.stats.select_ms == 0


def test_a_follow_up_goes_on_from_the_rows_of_its_conversation(pair: Pair) -> None:
    first = prompt_of(pair, (1, 0, 2))
    asked = ask(pair, first, 1.0, "question-late")
    said = pair.engine.submit(asked).token_ids
    follow_up = (*first, *said, *ids(9, seed=97))
    answer = pair.engine.submit(replace(asked, prompt_ids=follow_up))
    assert answer.stats.select_ms == 0 and answer.stats.fallback is None
    assert answer.stats.reused_tokens > answer.stats.context_tokens - BLOCK_SIZE
    agrees(answer, torch.log_softmax(pair.model(torch.tensor([follow_up])).logits[0, -1], -1))


def test_requests_that_are_preempted_give_what_they_give_alone(pair: Pair) -> None:
    orders = [(0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 0, 1), (0, 2, 1), (1, 2, 0)]
    requests = [ask(pair, prompt_of(pair, order), 0.3, "question-late", max_tokens=60) for order in orders]
    alone = [pair.engine.submit(request).token_ids for request in requests]
    before = preemptions()

    async def at_once() -> list[Answer]:
        again = [replace(request, cache_salt=uuid.uuid4().hex) for request in requests]
        return list(await asyncio.gather(*(pair.engine.asubmit(request) for request in again)))

    together = asyncio.run(at_once())
    # Six times 182 tokens, in blocks of 32, in 1,024 places: somebody had to give way.
    assert preemptions() > before
    assert [answer.token_ids for answer in together] == alone
    assert pair.engine.blends_in_flight() == 0 and pair.engine.reset_prefix_cache()


def test_a_blend_that_leaves_too_much_is_left_to_full_prefill_every_time_it_is_asked_for(pair: Pair) -> None:
    limit = Calibration(
        "question-late", 0.02, ((0.1, 0.01),), 0.1, 0.0, give_up_residual=0.0, num_questions=1
    )
    verdict = Verdict(True, "agrees", installed_vllm(), calibration=limit)
    GateFile(pair.engine.setup.settings.verdict_file).write(verdict)
    plain = ask(pair, prompt_of(pair, (2, 0, 1)), 0.0, "first")
    full = pair.engine.submit(replace(plain, params=BlendParams(enabled=False)))
    given_up = replace(plain, params=BlendParams(), cache_salt=uuid.uuid4().hex)
    for _ in range(2):
        answer = pair.engine.submit(given_up)
        assert answer.stats.fallback is not None and "would not be recomputed" in answer.stats.fallback
        assert answer.stats.residual is not None and answer.stats.residual > 0
        assert answer.token_ids == full.token_ids
    assert pair.engine.blends_in_flight() == 0


# The two tests below run inside the workers. They stand last: what they break is mended again.


def test_a_wrong_rotary_table_is_named(pair: Pair) -> None:
    assert pair.engine.check_model() is None
    for answer in in_workers(pair, _check_with_another_rotary_base):
        assert "its keys do not turn as its rotary table says" in answer
    assert pair.engine.check_model() is None


def test_a_mask_that_looks_ahead_is_named(pair: Pair) -> None:
    for answer in in_workers(pair, _check_with_a_look_ahead_mask):
        assert "its attention mask looks ahead" in answer
    assert pair.engine.check_model() is None


def in_workers(pair: Pair, function: Callable[[Any], str]) -> list[str]:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        return list(pair.engine._thread.run(pair.engine._thread.llm.collective_rpc(function)))
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def _heads_on_device(worker: Any) -> str:
    """Heads of every chunk that the device's tier holds."""
    from blend.store.tiers.device import DeviceStore
    from blend.vllm.worker.worker import _connector

    store = _connector().worker._stores.of("")
    if not isinstance(store, DeviceStore):
        return "no such tier"
    return " ".join(sorted({str(chunk.keys.shape[2]) for chunk in store._chunks.values()}))


def _check_with_another_rotary_base(worker: Any) -> str:
    """The model turns its keys by half the angles that its rotary module states."""
    from blend.vllm.layers.layers import _rotary

    layers = worker.model_runner.get_model().model.layers
    tables = {id(t): t for t in (_rotary(layer).cos_sin_cache for layer in layers)}.values()
    kept = [table.clone() for table in tables]
    try:
        for table in tables:
            table[: len(table) // 2] = table[: len(table) // 2 * 2 : 2].clone()
        return str(worker.check_model())
    finally:
        for table, own in zip(tables, kept, strict=True):
            table.copy_(own)


def _check_with_a_look_ahead_mask(worker: Any) -> str:
    """Every token sees its whole sequence."""
    from blend.vllm.layers.layers import LayerRunner

    own = LayerRunner.prepare

    def prepare(self: LayerRunner, rows: Any) -> Any:
        prepared = own(self, rows)
        for metadata in prepared.metadata.values():
            metadata.causal = False
        return prepared

    LayerRunner.prepare = prepare  # type: ignore[method-assign]
    try:
        return str(worker.check_model())
    finally:
        LayerRunner.prepare = own  # type: ignore[method-assign]


def preemptions() -> float:
    return sum(
        sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name == "vllm:num_preemptions_total"
    )
