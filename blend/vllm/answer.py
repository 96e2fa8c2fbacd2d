"""What is asked of the engine, and what comes back."""

from dataclasses import dataclass
from typing import Any

from blend.stats import BlendStats
from blend.vllm.request_params import KEY, BlendParams


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to the engine, ready to be sent.

    Attributes:
        cache_salt: requests of different salts share nothing in the engine's prefix cache.
        logprobs: how many of the likeliest first tokens to give log-probabilities of, or None.
    """

    prompt_ids: tuple[int, ...]
    params: BlendParams
    max_tokens: int
    temperature: float
    cache_salt: str | None
    logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer.

    Attributes:
        ttft_ms: from the request's arrival to its first token.
        stats: what happened to the context.
        prefix_hit_tokens: prompt tokens that lay in the engine's pages already or were blended into them.
        first_logprobs: of the first token, by token id, where they were asked for.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str | None
    ttft_ms: float
    stats: BlendStats
    prefix_hit_tokens: int = 0
    first_logprobs: dict[int, float] | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed answer; the last one carries the whole answer."""

    text: str
    answer: Answer | None = None


def answer_of(output: Any, ttft_ms: float) -> Answer:
    """The answer in a finished vLLM `RequestOutput`."""
    done = output.outputs[0]
    ours = (output.kv_transfer_params or {}).get(KEY)
    stats = (
        BlendStats.from_json(ours) if ours else BlendStats(fallback="the model is served without blending")
    )
    first = done.logprobs[0] if done.logprobs else None
    logprobs = {token: entry.logprob for token, entry in first.items()} if first else None
    return Answer(
        text=done.text,
        token_ids=tuple(done.token_ids),
        finish_reason=done.finish_reason,
        ttft_ms=ttft_ms,
        stats=stats,
        prefix_hit_tokens=output.num_cached_tokens or 0,
        first_logprobs=logprobs,
    )
