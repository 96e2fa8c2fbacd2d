"""The gate: a model is blended only after it has agreed with its own full prefill.

A self-check looks at the layers themselves (`blend.vllm.worker.trial`), then computes the chunks of a few
built-in prompts, answers each with full prefill, at ratio 1.0 (which must be the same), at the default ratio
and at ratio 0, and writes the verdict beside the store.
"""

import logging
import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING

from blend.settings.defaults import DEFAULTS
from blend.vllm.gate.prompts import PROMPTS, GatePrompt
from blend.vllm.gate.verdict_file import GateFile, Verdict, judged
from blend.vllm.request_params import BlendParams
from blend.vllm.version import installed_vllm

if TYPE_CHECKING:
    from blend.vllm.engine.answer import Answer
    from blend.vllm.engine.engine import Engine

logger = logging.getLogger(__name__)

MAX_TOKENS = 8
TOP_LOGPROBS = 20
MAX_EXACT_KL = 0.02
"""At ratio 1.0 only the order of floating-point sums differs: float32 gives 1e-6, bfloat16 about 5e-3."""
MAX_DEFAULT_KL = 0.5
"""Mean over the prompts at the default ratio; answers stay on topic well above the first-token KL of this."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One built-in prompt, answered four ways."""

    full: "Answer"
    exact: "Answer"
    default: "Answer"
    reuse: "Answer"


def ensure_verdict(engine: "Engine", *, again: bool = False) -> Verdict:
    """The verdict on an engine's model, from the store or, where there is none, from a self-check.

    Args:
        again: check even if there is a verdict.
    """
    gate = GateFile(engine.setup.settings.verdict_file)
    known = gate.read()
    verdict = None if again else known
    if verdict is None:
        verdict = self_check(engine)
        if known is not None and known.calibration is not None:
            verdict = judged(verdict, known.calibration)  # minutes of measuring are not thrown away
        gate.write(verdict)
    if not verdict.passed:
        logger.warning("kvblend serves %s without blending: %s", engine.model_name, verdict.reason)
    return verdict


def self_check(engine: "Engine") -> Verdict:
    """Blend the built-in prompts and compare with full prefill; leaves no chunk of its own behind."""
    if engine.setup.not_blendable is not None:
        return Verdict(False, engine.setup.not_blendable, installed_vllm())
    broken = engine.check_model()
    if broken is not None:
        return Verdict(False, broken, installed_vllm())
    kept = set(engine.store.ids())
    # By name: another process may be storing chunks of its own at the same time.
    own = {record.chunk_id for prompt in PROMPTS for record in engine.records(prompt.passages, prompt.prefix)}
    try:
        return judge([_compare(engine, prompt) for prompt in PROMPTS], DEFAULTS.recompute_ratio)
    finally:
        for chunk_id in own - kept:
            engine.store.delete(chunk_id)


def judge(comparisons: Sequence[Comparison], default_ratio: float) -> Verdict:
    """The verdict that follows from the comparisons."""
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


def kl_of(reference: "Answer", other: "Answer") -> float:
    """KL divergence of the first token, over the tokens that the reference names.

    What `other` does not name is at most as likely as the least likely token it does name.
    """
    assert reference.first_logprobs and other.first_logprobs
    floor = min(other.first_logprobs.values())
    return sum(
        math.exp(logprob) * (logprob - other.first_logprobs.get(token, floor))
        for token, logprob in reference.first_logprobs.items()
    )


def _compare(engine: "Engine", prompt: GatePrompt) -> Comparison:
    chunks = engine.precompute(prompt.passages, prefix=prompt.prefix)
    ask = engine.ask(prompt.question, chunks[::-1], prefix=prompt.prefix, max_tokens=MAX_TOKENS)
    key = engine.setup.settings.gate_key

    def answer(params: BlendParams) -> "Answer":
        # A salt of its own for each: none may be served another's blocks.
        return engine.submit(replace(ask, params=params, cache_salt=uuid.uuid4().hex, logprobs=TOP_LOGPROBS))

    return Comparison(
        full=answer(BlendParams(enabled=False)),
        exact=answer(BlendParams(recompute_ratio=1.0, gate_key=key, namespace=engine.namespace)),
        default=answer(
            BlendParams(recompute_ratio=DEFAULTS.recompute_ratio, gate_key=key, namespace=engine.namespace)
        ),
        reuse=answer(BlendParams(recompute_ratio=0.0, gate_key=key, namespace=engine.namespace)),
    )
