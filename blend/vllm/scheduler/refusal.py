"""Why a request is prefilled normally: in a word, which is counted, and in words, which its answer gives."""

from enum import StrEnum
from typing import NamedTuple

from vllm.v1.request import Request


class Reason(StrEnum):
    """In a word; there are no others, so that metrics have as many series and no more."""

    POOLING = "pooling"
    NOT_TEXT = "not_text"
    LORA = "lora"
    ALL_TOKENS = "all_tokens_asked"
    SESSION = "session"
    SELF_CHECK = "self_check"
    BAD_TERMS = "bad_terms"
    SWITCHED_OFF = "switched_off"
    NOTHING_KNOWN = "nothing_known"
    PREFILL_SOONER = "prefill_sooner"
    RESIDUAL = "residual"
    MODEL = "model"
    ERROR = "error"


class Refusal(NamedTuple):
    reason: Reason
    text: str


def cannot_blend(request: Request) -> Refusal | None:
    """Why a request must be prefilled whatever it asks for, or None."""
    if request.pooling_params is not None:
        return Refusal(Reason.POOLING, "pooling requests are not blended")
    if request.prompt_token_ids is None or request.prompt_embeds is not None or request.mm_features:
        return Refusal(Reason.NOT_TEXT, "the prompt holds more than text")
    if request.lora_request is not None:
        return Refusal(Reason.LORA, "chunk KV was computed without the LoRA adapter")
    if request.skip_reading_prefix_cache:
        return Refusal(
            Reason.ALL_TOKENS, "the request asks for every prompt token to be computed (prompt logprobs)"
        )
    if request.resumable:
        return Refusal(Reason.SESSION, "streaming-input sessions are not blended")
    return None
