"""Calibration: how closely a model blends at each recompute ratio, and which ratio it is served at.

Full prefill answers each built-in question. A blend at each ratio is then forced to write that answer: the
curve is the mean KL divergence from full prefill at each ratio. The model's default ratio is the smallest one
within a tolerance. If no ratio is within it, the model is served without blending.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from blend.errors import ModelError, RequestError
from blend.maths.kl import check_logprobs, kl_per_token
from blend.settings.defaults import DEFAULTS
from blend.store.codecs.base import RAW
from blend.vllm.engine.answer import Answer, Ask
from blend.vllm.engine.setup import FORCING
from blend.vllm.gate.prompts import PROMPTS
from blend.vllm.gate.verdict_file import Calibration
from blend.vllm.request_params import BlendParams

if TYPE_CHECKING:
    from blend.vllm.engine.engine import Engine

FULL_PREFILL = BlendParams(enabled=False)
FORCING_ENGINE: dict[str, Any] = {
    "logits_processors": [FORCING],
    "max_logprobs": -1,
    "logprobs_mode": "raw_logprobs",
    "codec": RAW.name,  # what is measured is blending, not what a codec drops
}
"""Arguments of an engine that writes given answers and says how likely it finds each token."""

TOLERANCE = 0.02
"""Mean KL over an answer, in nats."""
RATIOS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
NUM_ORDERS = 2
"""Orders of the passages that each question is asked with."""
MAX_TOKENS = 12
MAX_RESIDUAL_FACTOR = 2.0
"""A blend is given up when its residual exceeds this multiple of the largest one of the chosen ratio."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One question at one ratio: mean KL over the answer in nats, and the residual."""

    kl: float
    residual: float


def calibrate(
    engine: "Engine",
    tolerance: float = TOLERANCE,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Calibration:
    """Measure a model's curve and choose its ratio.

    Args:
        engine: started with `FORCING_ENGINE`; the passages of the questions are added to its store.
        tolerance: largest mean KL to full prefill that is accepted, in nats.
        progress: called with the number of questions measured, and of all questions.

    Raises:
        ModelError: the model's numbers are broken.
        RequestError: the engine does not blend the questions.
    """
    measured: dict[float, list[Measurement]] = {ratio: [] for ratio in RATIOS}
    questions = built_in_questions(engine)
    for done, ask in enumerate(questions):
        progress(done, len(questions))
        for ratio, measurement in _measure(engine, ask):
            measured[ratio].append(measurement)
    progress(len(questions), len(questions))
    return conclude(measured, tolerance)


def conclude(measured: Mapping[float, Sequence[Measurement]], tolerance: float) -> Calibration:
    """What follows from the measurements at each ratio.

    The chosen ratio is the smallest from which on the curve stays within the tolerance.
    """
    curve = tuple((ratio, fmean(one.kl for one in measured[ratio])) for ratio in sorted(measured))
    above = [ratio for ratio, kl in curve if kl > tolerance]
    within = [ratio for ratio, _ in curve if not above or ratio > above[-1]]
    chosen = within[0] if within else None
    residuals = [one.residual for one in measured[curve[-1][0] if chosen is None else chosen]]
    return Calibration(
        selector=DEFAULTS.selector,
        tolerance=tolerance,
        curve=curve,
        recompute_ratio=chosen,
        max_residual=fmean(residuals),
        give_up_residual=min(1.0, MAX_RESIDUAL_FACTOR * max(residuals)),
        num_questions=len(residuals),
    )


def built_in_questions(engine: "Engine") -> list[Ask]:
    """The self-check's questions, each behind all passages, in several orders."""
    passages = tuple(dict.fromkeys(text for prompt in PROMPTS for text in prompt.passages))
    asks = []
    for number, prompt in enumerate(PROMPTS):
        chunks = engine.precompute(passages, prefix=prompt.prefix)
        for order in range(NUM_ORDERS):
            shift = (number + order * 2) % len(chunks)
            rotated = chunks[shift:] + chunks[:shift]
            asks.append(engine.ask(prompt.question, rotated, prefix=prompt.prefix, max_tokens=MAX_TOKENS))
    return asks


def forced_answer(
    engine: "Engine", prompt_ids: Sequence[int], params: BlendParams, answer_ids: Sequence[int]
) -> Answer:
    """A forced answer, with the log-probabilities of the whole vocabulary at each of its tokens.

    Args:
        engine: started with `FORCING_ENGINE`.

    Raises:
        ModelError: the model does not know a token of the answer, or its numbers are broken.
        RequestError: the engine does not blend a prompt that is to be blended.
    """
    prompt, forced = tuple(prompt_ids), tuple(answer_ids)
    salt = uuid.uuid4().hex  # no request finds blocks of another one in the prefix cache
    answer = engine.submit(Ask(prompt, params, len(forced), 0.0, salt, all_logprobs=True, forced_ids=forced))
    if params.enabled and answer.stats.fallback is not None:
        raise RequestError(f"the engine did not blend the prompt: {answer.stats.fallback}")
    if answer.token_ids != forced:
        raise ModelError(
            f"got the answer {answer.token_ids}, expected the forced answer {forced}: the model lacks "
            "some of these tokens"
        )
    assert answer.logprobs is not None
    check_logprobs(answer.logprobs, len(forced), answer.logprobs.shape[-1])
    return answer


def _measure(engine: "Engine", ask: Ask) -> list[tuple[float, Measurement]]:
    """One question at every ratio."""
    own = engine.submit(replace(ask, params=FULL_PREFILL, cache_salt=uuid.uuid4().hex))
    full = forced_answer(engine, ask.prompt_ids, FULL_PREFILL, own.token_ids)
    assert full.logprobs is not None
    found = []
    for ratio in RATIOS:
        params = replace(
            ask.params,
            recompute_ratio=ratio,
            selector=DEFAULTS.selector,
            gate_key=engine.setup.settings.gate_key,
        )
        blended = forced_answer(engine, ask.prompt_ids, params, own.token_ids)
        assert blended.logprobs is not None
        kl = float(kl_per_token(full.logprobs, blended.logprobs).mean())
        found.append((ratio, Measurement(kl, blended.stats.residual or 0.0)))
    return found
