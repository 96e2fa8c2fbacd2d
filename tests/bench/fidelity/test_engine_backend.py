"""The laboratory's two paths on one tiny model: the engine's, and Hugging Face's as its reference.

Both are held to the same figures: the same selected tokens on 99 % of rows, log-probabilities whose KL
divergence is below 1e-3, in float32.
"""

import asyncio
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import pytest
import torch
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

from bench.fidelity.backend import Outcome, Reference
from bench.fidelity.engine_backend import EngineBackend
from bench.fidelity.hf_backend import HFBackend
from bench.fidelity.methods import FLOORS, LED, Method, methods
from bench.fidelity.question import LabPrompt
from bench.fidelity.run import LabSettings, prompt_builder
from bench.fidelity.scores import score
from blend.errors import RequestError
from blend.maths.kl import check_logprobs, kl_per_token
from blend.settings.defaults import DEFAULTS
from blend.vllm.engine import calibrate as calibration
from blend.vllm.engine.answer import Answer, Ask
from blend.vllm.gate.prompts import PROMPTS as PROMPTS_OF_GATE
from blend.vllm.request_params import BlendParams
from tests.bench.fidelity.built_in import built_in_questions
from tests.reference.tiny_models import VOCAB_SIZE, tiny_model
from tests.support.workers import cores

pytestmark = pytest.mark.engine

MAX_KL = 1e-3
MIN_SAME_ROWS = 0.99
MAX_TOKENS = 6
POSITIONS = 4096  # the lead alone is 2,000 tokens of one character each
SELECTING = ("prefixed-question-late@0.15", "cacheblend@0.15", "led-question-late@0.15")
ALL = [
    m for m in methods([*SELECTING, "reuse-alone", "reuse-prefixed", "reuse-led"], ()) if m.name != "random"
]


@dataclass(frozen=True, slots=True)
class Lab:
    """One model on both sides."""

    hf: HFBackend
    engine: EngineBackend


def ids(num: int, seed: int) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(VOCAB_SIZE, (num,), generator=generator).tolist())


def prompt_of(number: int) -> LabPrompt:
    lengths = (120, 65, 90 + number, 64)
    return LabPrompt(
        key=f"q{number}",
        prefix_ids=ids(7, seed=0),
        chunks=tuple(ids(num, 10 * number + i) for i, num in enumerate(lengths, start=1)),
        separator_ids=(3,),
        before_ids=ids(9, 10 * number + 6) if number == 4 else (),
        suffix_ids=ids(11 + number, 10 * number + 7),
        answers=("gold", "silver"),
        wrong_chunks=tuple(ids(num, 10 * number + 100 + i) for i, num in enumerate(lengths)),
    )


PROMPTS = [prompt_of(number) for number in (1, 2, 3, 4)]


def save_tokenizer(folder: Path) -> None:
    """Single bytes, ASCII first: so the lead's ids are ones that the model knows."""
    ascii_text = "".join(map(chr, range(128)))
    ((characters, _),) = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(ascii_text)
    rest = sorted(set(ByteLevel.alphabet()) - set(characters))
    tokenizer = Tokenizer(BPE({character: i for i, character in enumerate([*characters, *rest])}, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    model, folder = tiny_model("llama", head_size=32), tmp_path_factory.mktemp("model")
    model.config.max_position_embeddings = POSITIONS
    model.save_pretrained(folder)
    save_tokenizer(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_OMP_THREADS_BIND", str(cores()[0]))
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        engine = EngineBackend(str(folder), block_size=32, max_num_batched_tokens=256, max_num_seqs=4)
        try:
            yield Lab(HFBackend(str(folder)), engine)
        finally:
            engine.close()


def references(lab: Lab, prompt: LabPrompt) -> tuple[Reference, Reference]:
    return lab.hf.reference(prompt, MAX_TOKENS), lab.engine.reference(prompt, MAX_TOKENS)


def outcomes(lab: Lab, prompt: LabPrompt, given: Reference, method: Method) -> tuple[Outcome, Outcome]:
    return lab.hf.measure(prompt, given, method), lab.engine.measure(prompt, given, method)


def largest_kl(expected: Reference | Outcome, got: Reference | Outcome) -> float:
    num = expected.logprobs.shape[0]
    return float(
        kl_per_token(
            check_logprobs(expected.logprobs, num, VOCAB_SIZE), check_logprobs(got.logprobs, num, VOCAB_SIZE)
        ).max()
    )


def test_both_are_the_same_model(lab: Lab) -> None:
    assert lab.hf.fingerprint == lab.engine.fingerprint
    assert lab.hf.model_name == lab.engine.model_name


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: prompt.key)
def test_full_prefill_answers_the_same(lab: Lab, prompt: LabPrompt) -> None:
    expected, got = references(lab, prompt)
    assert got.token_ids == expected.token_ids and got.text == expected.text
    assert largest_kl(expected, got) < MAX_KL
    assert got.gold_logprob == pytest.approx(expected.gold_logprob, abs=1e-3)
    assert got.ms > 0


@pytest.mark.parametrize("method", ALL, ids=lambda method: method.name)
def test_both_paths_select_the_same_rows_and_answer_the_same(lab: Lab, method: Method) -> None:
    same, selected, kl = 0, 0, []
    for prompt in PROMPTS:
        given, _ = references(lab, prompt)
        expected, got = outcomes(lab, prompt, given, method)
        same += len(set(expected.selected) & set(got.selected))
        selected += max(len(expected.selected), len(got.selected))
        kl.append(largest_kl(expected, got))
        assert got.flops_share == pytest.approx(expected.flops_share, rel=1e-2)
        assert got.gold_logprob == pytest.approx(expected.gold_logprob, abs=1e-2)
        assert got.text == expected.text
        assert got.key_error == got.value_error == ()
    print(f"{method.name}: {same} of {selected} rows the same, largest KL {max(kl):.2e}")
    assert same >= MIN_SAME_ROWS * selected
    assert max(kl) < MAX_KL


def test_what_was_measured_before_changes_nothing(lab: Lab) -> None:
    given = references(lab, PROMPTS[0])[1]
    chosen = [method for method in ALL if method.chunks not in FLOORS]
    there, back = (
        [lab.engine.measure(PROMPTS[0], given, method) for method in order]
        for order in (chosen, chosen[::-1])
    )
    for first, second in zip(there, back[::-1], strict=True):
        assert first.selected == second.selected and first.text == second.text
        assert largest_kl(first, second) < 1e-6


def test_a_method_that_needs_full_prefills_values_is_refused(lab: Lab) -> None:
    (oracle,) = (method for method in methods(["led-oracle@0.15"], ()) if method.chunks not in FLOORS)
    with pytest.raises(RequestError, match="--backend hf"):
        lab.engine.measure(PROMPTS[0], references(lab, PROMPTS[0])[1], oracle)


def test_a_prompt_that_leaves_no_room_for_its_answer_is_refused(lab: Lab) -> None:
    with pytest.raises(RequestError, match="fewer passages"):
        lab.engine.reference(PROMPTS[0], POSITIONS - 10)


def test_a_forced_answer_comes_back_as_forced_and_its_neighbour_is_untouched(lab: Lab) -> None:
    engine, full, forced_ids = lab.engine.engine, BlendParams(enabled=False), ids(40, seed=77)
    prompts = [prompt.prompt_ids for prompt in PROMPTS[:3]]

    def free(prompt: tuple[int, ...]) -> Ask:
        return Ask(prompt, full, 40, 0.0, uuid.uuid4().hex, logprobs=5)

    alone = [engine.submit(free(prompt)) for prompt in prompts[:2]]

    async def together() -> list[Answer]:
        forced = Ask(prompts[2], full, 1, 0.0, None, all_logprobs=True, forced_ids=forced_ids)
        asks = [free(prompts[0]), forced, free(prompts[1])]
        return list(await asyncio.gather(*(engine.asubmit(ask) for ask in asks)))

    first, forced, second = asyncio.run(together())
    assert forced.token_ids == forced_ids and forced.finish_reason == "length"
    assert forced.logprobs is not None and forced.first_logprobs is None and forced.text == ""
    check_logprobs(forced.logprobs, len(forced_ids), VOCAB_SIZE)
    assert (forced.logprobs > -50).all(), "the model's own, not those of what was forced"
    for free_one, before in zip((first, second), alone, strict=True):
        assert free_one.token_ids == before.token_ids and free_one.logprobs is None
        assert free_one.first_logprobs == pytest.approx(before.first_logprobs, abs=1e-4)


def test_calibrating_the_engine_gives_the_curve_of_the_reference(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    ratios, prompts = (0.0, 0.1, 0.4), PROMPTS_OF_GATE[:2]  # all of them take minutes
    monkeypatch.setattr(calibration, "RATIOS", ratios)
    monkeypatch.setattr(calibration, "PROMPTS", prompts)
    told: list[tuple[int, int]] = []
    found = calibration.calibrate(lab.engine.engine, progress=lambda done, total: told.append((done, total)))
    build = prompt_builder(lab.hf.tokenizer, LabSettings())
    questions = built_in_questions(prompts)
    expected: dict[float, list[float]] = {ratio: [] for ratio in ratios}
    for question in questions:
        prompt = build(question)
        given = lab.hf.reference(prompt, calibration.MAX_TOKENS)
        for ratio in ratios:
            method = Method("calibration", LED, DEFAULTS.selector, ratio)
            scores = score(prompt, given, method, lab.hf.measure(prompt, given, method))
            expected[ratio].append(scores.kl_mean)
    print(found.curve, expected)
    assert [ratio for ratio, _ in found.curve] == list(ratios)
    for ratio, kl in found.curve:
        assert kl == pytest.approx(fmean(expected[ratio]), rel=0.02, abs=1e-4), ratio
    assert found.num_questions == len(questions) == 4
    assert 0 < found.max_residual <= found.give_up_residual
    assert told == [(done, 4) for done in range(5)]
