"""A request to the engine, and its answer."""

from dataclasses import dataclass, field
from typing import Any

import torch

from blend.report.stats import BlendStats
from blend.vllm.request_params import KEY, BlendParams


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to the engine, ready to be sent.

    Attributes:
        cache_salt: requests with different salts share nothing in the engine's prefix cache.
        logprobs: how many of the likeliest first tokens get log-probabilities, or None.
        all_logprobs: return the log-probabilities of the whole vocabulary at each token of the answer. Start
            the engine with `max_logprobs=-1`. The answer has no text then: detokenising every candidate takes
            longer than the token.
        forced_ids: the answer that the engine is forced to write, token by token, whatever the model prefers.
            Start the engine with `logits_processors=[blend.vllm.engine.setup.FORCING]`.
    """

    prompt_ids: tuple[int, ...]
    params: BlendParams
    max_tokens: int
    temperature: float
    cache_salt: str | None
    logprobs: int | None = None
    all_logprobs: bool = False
    forced_ids: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer.

    Attributes:
        text: empty if all log-probabilities were asked for.
        ttft_ms: from the request's arrival to its first token.
        stats: what happened to the context.
        prefix_hit_tokens: prompt tokens that were in the engine's pages or were blended into them.
        prefill_ms: from the scheduling of the rest to prefill (the suffix of a blend, else the prompt) to the
            first token; None when the engine records no times.
        first_logprobs: of the first token, by token id, if they were asked for.
        logprobs: float32 [A, V] on the CPU, of the whole vocabulary at each of the answer's `A` tokens, if
            they were asked for.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str | None
    ttft_ms: float
    stats: BlendStats
    prefix_hit_tokens: int = 0
    prefill_ms: float | None = None
    first_logprobs: dict[int, float] | None = None
    logprobs: torch.Tensor | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed answer; the last one carries the whole answer."""

    text: str
    answer: Answer | None = None


def answer_of(output: Any, ttft_ms: float, *, all_logprobs: bool = False) -> Answer:
    """The answer in a finished vLLM `RequestOutput`.

    Args:
        all_logprobs: the output has vLLM's `FlatLogprobs` of the whole vocabulary.
    """
    done = output.outputs[0]
    ours = (output.kv_transfer_params or {}).get(KEY)
    stats = (
        BlendStats.from_json(ours) if ours else BlendStats(fallback="the model is served without blending")
    )
    first = done.logprobs[0] if done.logprobs and not all_logprobs else None
    first_logprobs = {token: entry.logprob for token, entry in first.items()} if first else None
    return Answer(
        text=done.text,
        token_ids=tuple(done.token_ids),
        finish_reason=done.finish_reason,
        ttft_ms=ttft_ms,
        stats=stats,
        prefix_hit_tokens=output.num_cached_tokens or 0,
        prefill_ms=_prefill_ms(output.metrics),
        first_logprobs=first_logprobs,
        logprobs=_dense(done.logprobs) if all_logprobs else None,
    )


def _prefill_ms(metrics: Any) -> float | None:
    """From vLLM's own times of a request, both taken in the engine's process."""
    if metrics is None or not metrics.scheduled_ts or not metrics.first_token_ts:
        return None
    return float(metrics.first_token_ts - metrics.scheduled_ts) * 1e3


def _dense(flat: Any) -> torch.Tensor:
    """Log-probabilities [A, V] from vLLM's flat ones, which list the written token, then all by rank."""
    token_ids = torch.tensor(flat.token_ids).view(len(flat), -1)
    logprobs = torch.tensor(flat.logprobs, dtype=torch.float32).view(len(flat), -1)
    return torch.empty(len(flat), logprobs.shape[1] - 1).scatter_(1, token_ids, logprobs)
