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
from blend.chunks.chunk import ChunkKV, ChunkRecord, PositionGap, make_record
from blend.hf import blend, compute_chunks
from blend.hf.blender import HFBlend
from blend.plan.sharing import Sharing
from blend.select.base import SelectorInput
from blend.store.file_format.byte_source import HeldBytes
from blend.store.file_format.chunk_file import read_parts
from blend.vllm.engine.answer import Answer, Ask
from blend.vllm.gate.verdict_file import Calibration, GateFile, Verdict
from blend.vllm.request_params import BlendParams
from blend.vllm.version import installed_vllm
from tests.reference.tiny_models import FAMILIES, VOCAB_SIZE, tiny_model
from tests.support.tolerances import FIRST_TOKEN, ROTATION, rows_agree
from tests.support.workers import cores

pytestmark = pytest.mark.engine

HEAD_SIZE = 32  # the smallest that vLLM's attention for CPUs takes
BLOCK_SIZE = 32
DEVICE_BYTES = 1 << 24
# An engine's start takes most of the time, so one family stands for two tensor-parallel ranks as well.
CASES = [
    (family, 2 if family == "llama" else 1, "dense" if number % 2 else "paged", dtype)
    for number, family in enumerate(FAMILIES, start=1)
    for dtype in (torch.float32, torch.bfloat16)
]


@dataclass(frozen=True, slots=True)
class Pair:
    """One model on both sides, with the same chunks known to each.

    Attributes:
        dtype: of the engine; the reference computes in float32, with the same weights.
    """

    engine: Engine
    attention: str
    dtype: torch.dtype
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


def name_of(case: tuple[str, int, str, torch.dtype]) -> str:
    family, num_ranks, attention, dtype = case
    return f"{family}-tp{num_ranks}-{attention}-{str(dtype).removeprefix('torch.')}"


@pytest.fixture(scope="module", params=CASES, ids=name_of)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    family, num_ranks, attention, dtype = request.param
    model = tiny_model(family, head_size=HEAD_SIZE)
    for parameter in model.parameters():  # such weights as both dtypes have
        parameter.data = parameter.data.bfloat16().float()
    folder = tmp_path_factory.mktemp(family)
    save(model, folder / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_OMP_THREADS_BIND", "|".join(map(str, cores()[:num_ranks])))
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        patch.setenv("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")  # functions of ours run in the workers
        with Engine(
            str(folder / "model"),
            folder / "store",
            dtype=str(dtype).removeprefix("torch."),
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
            chunks = tuple(compute_chunks(model, [prefix, *records]))
            yield Pair(engine, attention, dtype, model, prefix, records, chunks)


def ask(pair: Pair, prompt: tuple[int, ...], ratio: float, selector: str, max_tokens: int = 4) -> Ask:
    key = pair.engine.setup.settings.gate_key
    params = BlendParams(recompute_ratio=ratio, selector=selector, gate_key=key, trace=True)
    return Ask(prompt, params, max_tokens, 0.0, uuid.uuid4().hex, logprobs=20)


def prompt_of(
    pair: Pair, order: tuple[int, ...], unknown: tuple[int, ...] = (), question: int = 99
) -> tuple[int, ...]:
    first, *others = (pair.records[i].token_ids for i in order)
    joined = [token for chunk in (first, unknown, *others) for token in (*chunk, 3)]
    return (*pair.prefix.token_ids, *joined, *ids(6, seed=question))


@dataclass(frozen=True, slots=True)
class Chosen:
    """Picks given rows; implements `blend.select.base.Selector`."""

    positions: tuple[int, ...]
    name: str = "chosen"
    measure: str = "chosen or not"
    probe_layer: None = None
    question_layers: None = None

    def score(self, inputs: SelectorInput) -> torch.Tensor:
        scores = torch.zeros(inputs.plan.num_tokens)
        scores[list(self.positions)] = torch.inf  # whatever the ratio
        return scores[inputs.start :]


def reference(
    pair: Pair, answer: Answer, prompt: tuple[int, ...], ratio: float, selector: str, **more: Any
) -> HFBlend:
    """The Hugging Face blend that an answer should be given from.

    In bfloat16 rows of nearly the same score change places, so there the reference takes the rows that the
    engine has chosen, once most of them are its own choice as well.
    """
    chunks = more.pop("chunks", pair.chunks)
    own = blend(pair.model, prompt, chunks, recompute_ratio=ratio, selector=selector, **more)
    if pair.dtype == torch.float32:
        assert answer.stats.selected == tuple(own.selected.tolist())
        return own
    common = {*own.selected.tolist()} & {*answer.stats.selected}
    assert len(answer.stats.selected) == len(own.selected)
    assert len(common) >= 0.8 * len(own.selected), (own.selected, answer.stats.selected)
    chosen = Chosen(answer.stats.selected)
    return blend(pair.model, prompt, chunks, recompute_ratio=ratio, selector=chosen, **more)


def generated(pair: Pair, prompt: tuple[int, ...], blended: HFBlend) -> tuple[torch.Tensor, list[int]]:
    """Log-probabilities of the first token, and greedy tokens, from a blend that begins the prompt."""
    done = pair.model.generate(
        torch.tensor([prompt]),
        past_key_values=blended.cache,
        max_new_tokens=4,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return torch.log_softmax(done.logits[0][0], -1), done.sequences[0, len(prompt) :].tolist()


@torch.no_grad()
def prefilled(pair: Pair, prompt: tuple[int, ...]) -> torch.Tensor:
    """Log-probabilities of the first token behind the reference's full prefill."""
    return torch.log_softmax(pair.model(torch.tensor([prompt])).logits[0, -1], -1)


def distance(answer: Answer, logprobs: torch.Tensor) -> float:
    """Between log-probabilities of the first token: root mean square over the likeliest tokens."""
    assert answer.first_logprobs is not None
    known = logprobs.isfinite().nonzero().flatten().tolist()
    tokens = sorted({*answer.first_logprobs} & {*known})
    assert len(tokens) > 10, "most of what is likely for one is likely for the other"
    got = torch.tensor([answer.first_logprobs[token] for token in tokens])
    return float((got - logprobs[tokens]).square().mean().sqrt())


def agrees(pair: Pair, answer: Answer, logprobs: torch.Tensor) -> None:
    assert distance(answer, logprobs) <= FIRST_TOKEN[pair.dtype].blend


def as_tensor(answer: Answer) -> torch.Tensor:
    """Its first token's log-probabilities, as far as they are known."""
    assert answer.first_logprobs is not None
    logprobs = torch.full((VOCAB_SIZE,), torch.nan)
    logprobs[list(answer.first_logprobs)] = torch.tensor(list(answer.first_logprobs.values()))
    return logprobs


def in_dtype(pair: Pair, chunk: ChunkKV) -> ChunkKV:
    """A chunk of the reference as the engine would store it."""
    return ChunkKV(chunk.record, chunk.keys.to(pair.dtype), chunk.values.to(pair.dtype))


def test_full_prefill_is_as_far_from_the_reference_as_the_tolerances_say(pair: Pair) -> None:
    """The yardstick of all tolerances below, on prompts as below."""
    for order in ((2, 0, 1), (1, 0, 2), (0, 1, 2)):
        for question in (99, 98):
            prompt = prompt_of(pair, order, question=question)
            plain = replace(ask(pair, prompt, 0.0, "first"), params=BlendParams(enabled=False))
            far = distance(pair.engine.submit(plain), prefilled(pair, prompt))
            assert far <= FIRST_TOKEN[pair.dtype].full_prefill


def test_chunk_kv_is_the_reference_s(pair: Pair) -> None:
    for chunk in pair.chunks:
        stored = pair.engine.store.get(chunk.record)
        assert stored is not None, "the prefix is stored beside its chunks"
        rows_agree(stored.keys, chunk.keys)
        rows_agree(stored.values, chunk.values)


def test_text_that_comes_again_is_the_reference_s(pair: Pair) -> None:
    engine, prefix_ids = pair.engine, pair.prefix.token_ids
    own = pair.records[0].token_ids[-20:] + ids(12, seed=8)
    chunk, echo = (make_record(engine.fingerprint, behind, own) for behind in (prefix_ids, prefix_ids + own))
    engine.compute([chunk])
    computed, right = compute_chunks(pair.model, [chunk, echo])
    # A tiny model's echo differs little from its chunk: one that differs more shows whose rows are taken.
    loud = ChunkKV(echo, right.keys, 5 * right.values)
    engine.store.put(in_dtype(pair, loud))
    known = (computed, loud)
    prompt = (*prefix_ids, *pair.records[0].token_ids, 3, *own, 3, *ids(6, seed=99))
    deadline = time.monotonic() + 60
    while (answer := engine.submit(ask(pair, prompt, 0.0, "first"))).stats.counts.cold_tokens > 2:
        assert time.monotonic() < deadline, answer.stats  # new chunks are seen within a second
    for ratio, selector in ((0.0, "first"), (0.1, "question-late")):
        answer = engine.submit(ask(pair, prompt, ratio, selector))
        blended = reference(pair, answer, prompt, ratio, selector, chunks=(*pair.chunks, *known))
        chunks = (*pair.chunks, computed)
        without = blend(pair.model, prompt, chunks, recompute_ratio=ratio, selector=selector)
        expected = generated(pair, prompt, blended)[0]
        agrees(pair, answer, expected)
        counts = distance(answer, generated(pair, prompt, without)[0])
        assert counts > max(1e-3, 2 * distance(answer, expected))
    for record in (chunk, echo):
        engine.store.delete(record.chunk_id)


@pytest.mark.parametrize("position_gap", [None, PositionGap(after=5, by=200)])
def test_an_echo_is_the_reference_s(pair: Pair, position_gap: PositionGap | None) -> None:
    engine, own = pair.engine, [ids(num, seed=num) for num in (18, 37)]
    head, *echoes = (
        make_record(engine.fingerprint, behind, chunk, position_gap)
        for behind, chunk in [
            ((), pair.prefix.token_ids),
            *((pair.prefix.token_ids + chunk, chunk) for chunk in own),
        ]
    )
    engine.compute(echoes)
    for chunk in compute_chunks(pair.model, echoes):
        stored = engine.store.get(chunk.record)
        assert stored is not None and stored.record == chunk.record
        rows_agree(stored.keys, chunk.keys, ROTATION)
        rows_agree(stored.values, chunk.values)
    for record in (head, *echoes):
        if record != pair.prefix:
            engine.store.delete(record.chunk_id)


def test_chunk_kv_across_a_position_gap_is_the_reference_s(pair: Pair) -> None:
    engine, prefix_ids = pair.engine, pair.prefix.token_ids
    behind, position_gap = prefix_ids + ids(20, seed=5), PositionGap(after=len(prefix_ids), by=200)
    head = make_record(engine.fingerprint, (), behind, position_gap)
    one, other = (make_record(engine.fingerprint, behind, ids(num, num), position_gap) for num in (30, 9))
    engine.compute([one])  # what it stands behind is computed and stored on the way
    engine.compute([other])
    for chunk in compute_chunks(pair.model, [head, one, other]):
        stored = engine.store.get(chunk.record)
        assert stored is not None and stored.record == chunk.record
        rows_agree(stored.keys, chunk.keys, ROTATION)
        rows_agree(stored.values, chunk.values)
    engine.store.delete(head.chunk_id)
    engine.compute([head])  # as a job has it computed, by itself
    again = engine.store.get(head)
    assert again is not None
    rows_agree(again.values, compute_chunks(pair.model, [head])[0].values)
    for record in (head, one, other):
        engine.store.delete(record.chunk_id)


@pytest.mark.parametrize("selector", ["deviation", "first", "question-late", "all"])
@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
def test_the_first_token_is_the_reference_s(pair: Pair, ratio: float, selector: str) -> None:
    prompt = prompt_of(pair, (2, 0, 1))
    answer = pair.engine.submit(ask(pair, prompt, ratio, selector))
    assert answer.stats.fallback is None
    expected = reference(pair, answer, prompt, ratio, selector)
    logprobs, tokens = generated(pair, prompt, expected)
    agrees(pair, answer, logprobs)
    if pair.dtype == torch.float32:  # else two tokens may be as likely as each other
        assert list(answer.token_ids) == tokens
    assert answer.stats.counts == expected.stats.counts
    assert answer.stats.context_tokens == expected.stats.context_tokens


def test_all_ranks_read_and_write_the_files_of_one_process(pair: Pair) -> None:
    record = make_record(pair.engine.fingerprint, pair.prefix.token_ids, ids(37, seed=7))
    chunk = compute_chunks(pair.model, [pair.prefix, record])[1]
    pair.engine.store.put(in_dtype(pair, chunk))  # as a process of one rank writes it: all heads
    one, other = (pair.engine.store.path(each.chunk_id) for each in (record, pair.records[0]))
    shapes = [
        read_parts(HeldBytes(bytearray(path.read_bytes())), path.stem)["kv"].shape for path in (one, other)
    ]
    assert [(*shape[:2], *shape[3:]) for shape in shapes] == 2 * [(*shapes[0][:2], *shapes[0][3:])]
    prompt = (*pair.prefix.token_ids, *pair.records[1].token_ids, 3, *record.token_ids, 3, *ids(6, seed=99))
    deadline = time.monotonic() + 60
    while (answer := pair.engine.submit(ask(pair, prompt, 0.0, "first"))).stats.counts.cold_tokens > 2:
        assert time.monotonic() < deadline, answer.stats  # new chunks are seen within a second
    blended = blend(pair.model, prompt, (*pair.chunks, chunk), recompute_ratio=0.0, selector="first")
    agrees(pair, answer, generated(pair, prompt, blended)[0])


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
        agrees(pair, answer, generated(pair, prompt, reference(pair, answer, prompt, ratio, "deviation"))[0])
    agrees(pair, answer, prefilled(pair, prompt))


def test_another_question_tops_up_what_the_first_one_left(pair: Pair) -> None:
    first, other = (prompt_of(pair, (2, 0, 1), question=seed) for seed in (99, 98))
    asked = ask(pair, first, 0.3, "question-late")
    said = pair.engine.submit(asked)
    blended = reference(pair, said, first, 0.3, "question-late")
    answer = pair.engine.submit(replace(asked, prompt_ids=other))
    if pair.attention == "paged":  # rows in pages cannot be read back
        assert answer.stats.counts.recomputed_tokens == blended.stats.counts.recomputed_tokens
        agrees(pair, answer, generated(pair, other, reference(pair, answer, other, 0.3, "question-late"))[0])
        return
    expected = reference(pair, answer, other, 0.3, "question-late", onto=blended)
    assert 0 < answer.stats.counts.recomputed_tokens == expected.stats.counts.recomputed_tokens
    assert answer.stats.counts.cold_tokens == expected.stats.counts.cold_tokens == 0
    agrees(pair, answer, generated(pair, other, expected)[0])
    # Both questions again: the first finds its own rows, and so does the second.
    for prompt in (first, other):
        again = pair.engine.submit(replace(asked, prompt_ids=prompt))
        assert again.stats.counts.recomputed_tokens == 0 and again.stats.times.select_ms == 0


def test_a_follow_up_goes_on_from_the_rows_of_its_conversation(pair: Pair) -> None:
    first = prompt_of(pair, (1, 0, 2))
    asked = ask(pair, first, 1.0, "question-late")
    said = pair.engine.submit(asked).token_ids
    follow_up = (*first, *said, *ids(9, seed=97))
    answer = pair.engine.submit(replace(asked, prompt_ids=follow_up))
    assert answer.stats.times.select_ms == 0 and answer.stats.fallback is None
    assert answer.stats.counts.reused_tokens > answer.stats.context_tokens - BLOCK_SIZE
    agrees(pair, answer, prefilled(pair, follow_up))


@pytest.mark.parametrize("selector", ["first", "question-late"])
@pytest.mark.parametrize("question_tokens", [1, BLOCK_SIZE + 3])
def test_a_request_that_is_asked_again_is_answered_to_the_bit(
    pair: Pair, selector: str, question_tokens: int
) -> None:
    head = prompt_of(pair, (2, 0, 1))[:-6]
    asked = ask(pair, (*head, *ids(question_tokens, seed=95)), 0.3, selector, max_tokens=12)
    first = pair.engine.submit(asked)
    assert first.stats.counts.reused_tokens > 0
    follow_up = replace(asked, prompt_ids=(*asked.prompt_ids, *first.token_ids, *ids(9, seed=94)))
    follow_ups = [pair.engine.submit(follow_up)]
    other = replace(asked, prompt_ids=(*head, *ids(question_tokens + 2, seed=93)))
    others = [pair.engine.submit(other)]
    pair.engine.submit(ask(pair, prompt_of(pair, (0, 1)), 0.5, "first"))  # of something else
    for _ in range(2):
        again = pair.engine.submit(asked)
        assert again.stats.counts.reused_tokens == again.stats.context_tokens == first.stats.context_tokens
        assert again.first_logprobs == first.first_logprobs and again.token_ids == first.token_ids
        follow_ups.append(pair.engine.submit(follow_up))
        others.append(pair.engine.submit(other))
    for answers in (follow_ups, others):
        assert len({answer.token_ids for answer in answers}) == 1
        assert all(answer.first_logprobs == answers[0].first_logprobs for answer in answers)


def test_requests_that_are_preempted_give_what_they_give_alone(pair: Pair) -> None:
    orders = [(0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 0, 1), (0, 2, 1), (1, 2, 0)]
    requests = [ask(pair, prompt_of(pair, order), 0.3, "question-late", max_tokens=60) for order in orders]
    alone = [pair.engine.submit(request) for request in requests]
    before = preemptions()

    async def at_once() -> list[Answer]:
        again = [replace(request, cache_salt=uuid.uuid4().hex) for request in requests]
        return list(await asyncio.gather(*(pair.engine.asubmit(request) for request in again)))

    together = asyncio.run(at_once())
    # Six times 182 tokens, in blocks of 32, in 1,024 places: somebody had to give way.
    assert preemptions() > before
    for one, other in zip(together, alone, strict=True):
        # They were computed in other batches, which in bfloat16 may give another text.
        assert len(one.token_ids) == len(other.token_ids)
        assert pair.dtype == torch.bfloat16 or one.token_ids == other.token_ids
        agrees(pair, one, as_tensor(other))
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
        agrees(pair, answer, as_tensor(full))
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
