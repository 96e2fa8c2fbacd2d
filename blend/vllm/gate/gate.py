"""The gate: a model is blended only after its blends agreed with its own full prefill.

The self-check tests the model's layers (`blend.vllm.worker.trial`), then computes the chunks of a few
built-in prompts, answers each by full prefill, at ratio 1.0 (which must give the same answer), at the default
ratio and at ratio 0, and writes the verdict beside the store.
"""

import logging
import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Protocol

from blend.chunks.chunk import ChunkRecord
from blend.report.stats import BlendStats
from blend.settings.defaults import DEFAULTS
from blend.vllm.gate.prompts import PROMPTS, GatePrompt
from blend.vllm.gate.verdict_file import GateFile, Verdict, judged
from blend.vllm.request_params import BlendParams
from blend.vllm.settings import Settings
from blend.vllm.version import installed_vllm

logger = logging.getLogger(__name__)

MAX_TOKENS = 8
TOP_LOGPROBS = 20
MAX_EXACT_KL = 0.02
"""Limit at ratio 1.0, where only the order of sums differs: float32 gives 1e-6, bfloat16 about 5e-3."""
MAX_DEFAULT_KL = 0.5
"""Limit on the mean over the prompts at the default ratio; answers stay on topic well above it."""


class Answered(Protocol):
    """What the gate needs of an answer."""

    @property
    def token_ids(self) -> tuple[int, ...]: ...
    @property
    def first_logprobs(self) -> Mapping[int, float] | None: ...
    @property
    def stats(self) -> BlendStats: ...


class EngineChunks(Protocol):
    """The chunks in an engine's store."""

    def ids(self) -> Iterator[str]: ...
    def delete(self, chunk_id: str) -> object: ...


class EngineSetup(Protocol):
    """How an engine was set up."""

    @property
    def settings(self) -> Settings: ...
    @property
    def not_blendable(self) -> str | None: ...


class GatedEngine(Protocol):
    """What the gate needs of an engine; `blend.vllm.engine.engine.Engine` has it."""

    model_name: str
    namespace: str

    @property
    def setup(self) -> EngineSetup: ...
    @property
    def store(self) -> EngineChunks: ...
    def check_model(self) -> str | None: ...
    def records(self, texts: Sequence[str], prefix: str) -> list[ChunkRecord]: ...
    def precompute(self, texts: Sequence[str], *, prefix: str = "") -> list[str]: ...
    def ask(
        self, question: str, chunks: Sequence[str] = (), *, prefix: str = "", max_tokens: int = 256
    ) -> Any: ...
    def submit(self, ask: Any) -> Answered: ...


@dataclass(frozen=True, slots=True)
class Comparison:
    """One built-in prompt, answered four ways."""

    full: Answered
    exact: Answered
    default: Answered
    reuse: Answered


def ensure_verdict(engine: GatedEngine, *, again: bool = False) -> Verdict:
    """The verdict on an engine's model: from the store, or from a self-check when the store has none.

    Args:
        again: check even if there is a verdict.
    """
    gate = GateFile(engine.setup.settings.verdict_file)
    known = gate.read()
    verdict = None if again else known
    if verdict is None:
        verdict = self_check(engine)
        if known is not None and known.calibration is not None:
            verdict = judged(verdict, known.calibration)  # the calibration took minutes to measure: keep it
        gate.write(verdict)
    if not verdict.passed:
        logger.warning("kvblend serves %s without blending: %s", engine.model_name, verdict.reason)
    return verdict


def self_check(engine: GatedEngine) -> Verdict:
    """Blend the built-in prompts and compare with full prefill; deletes the chunks that it computed."""
    if engine.setup.not_blendable is not None:
        return Verdict(False, engine.setup.not_blendable, installed_vllm())
    broken = engine.check_model()
    if broken is not None:
        return Verdict(False, broken, installed_vllm())
    kept = set(engine.store.ids())
    # Listed by id: another process may be storing other chunks at the same time.
    own = {record.chunk_id for prompt in PROMPTS for record in engine.records(prompt.passages, prompt.prefix)}
    try:
        return judge([_compare(engine, prompt) for prompt in PROMPTS], DEFAULTS.recompute_ratio)
    finally:
        for chunk_id in own - kept:
            engine.store.delete(chunk_id)


def judge(comparisons: Sequence[Comparison], default_ratio: float) -> Verdict:
    """The verdict on the comparisons."""
    blank = Verdict(False, "", installed_vllm())
    not_blended = {c.exact.stats.fallback for c in comparisons} - {None}
    if not_blended:
        return replace(blank, reason=f"the engine did not blend: {'; '.join(map(str, not_blended))}")
    exact_kl = max(kl_of(c.full, c.exact) for c in comparisons)
    default_kl = fmean(kl_of(c.full, c.default) for c in comparisons)
    passed = exact_kl <= MAX_EXACT_KL and default_kl <= MAX_DEFAULT_KL
    if passed:
        reason = "agrees with full prefill"
    elif exact_kl > MAX_EXACT_KL:
        reason = f"at ratio 1 KL to full prefill should be 0 but is {exact_kl:.3g} (limit {MAX_EXACT_KL})"
    else:
        reason = (
            f"at ratio {default_ratio} mean KL to full prefill is {default_kl:.3g} (limit {MAX_DEFAULT_KL})"
        )
    return replace(
        blank,
        passed=passed,
        reason=reason,
        num_prompts=len(comparisons),
        exact_matches=sum(c.exact.token_ids == c.full.token_ids for c in comparisons),
        exact_kl=exact_kl,
        default_ratio=default_ratio,
        default_kl=default_kl,
        reuse_kl=fmean(kl_of(c.full, c.reuse) for c in comparisons),
        top1_agreement=fmean(c.default.token_ids[:1] == c.full.token_ids[:1] for c in comparisons),
    )


def kl_of(reference: Answered, other: Answered) -> float:
    """KL divergence of the first token, over the tokens whose log-probabilities the reference has.

    A token that `other` lacks is at most as likely as the least likely token that it has.
    """
    assert reference.first_logprobs and other.first_logprobs
    floor = min(other.first_logprobs.values())
    return sum(
        math.exp(logprob) * (logprob - other.first_logprobs.get(token, floor))
        for token, logprob in reference.first_logprobs.items()
    )


def _compare(engine: GatedEngine, prompt: GatePrompt) -> Comparison:
    chunks = engine.precompute(prompt.passages, prefix=prompt.prefix)
    ask = engine.ask(prompt.question, chunks[::-1], prefix=prompt.prefix, max_tokens=MAX_TOKENS)
    key = engine.setup.settings.gate_key

    def answer(params: BlendParams) -> Answered:
        # A separate salt for each answer: none may get another one's blocks.
        return engine.submit(replace(ask, params=params, cache_salt=uuid.uuid4().hex, logprobs=TOP_LOGPROBS))

    return Comparison(
        full=answer(BlendParams(enabled=False)),
        exact=answer(BlendParams(recompute_ratio=1.0, gate_key=key, namespace=engine.namespace)),
        default=answer(
            BlendParams(recompute_ratio=DEFAULTS.recompute_ratio, gate_key=key, namespace=engine.namespace)
        ),
        reuse=answer(BlendParams(recompute_ratio=0.0, gate_key=key, namespace=engine.namespace)),
    )
