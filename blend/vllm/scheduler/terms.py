"""The terms of one request's blend, from the request, the server and the calibration; and why it has none."""

from dataclasses import dataclass

from vllm.v1.request import Request

from blend.errors import RequestError
from blend.plan.ratio import AUTO, Ratio
from blend.select import check_rule
from blend.settings.defaults import DEFAULTS
from blend.vllm.gate.verdict_file import Calibration
from blend.vllm.messages import PrefillReason, Reason
from blend.vllm.request_params import BlendParams
from blend.vllm.settings import Settings


@dataclass(frozen=True, slots=True)
class Terms:
    """Resolved options of one blend; all of them are part of its cache salt.

    Attributes:
        max_residual: what the ratio "auto" may leave.
        give_up_residual: residual above which the blend is given up and the request prefilled; None: never.
    """

    ratio: Ratio
    selector: str
    max_residual: float
    give_up_residual: float | None


def terms_of(params: BlendParams, settings: Settings, calibration: Calibration | None) -> Terms:
    """The terms of a request.

    A calibration is valid for the selector that it was made with. Its limit on the residual applies to its
    own ratio and to "auto", never to a number that the request or the server asks for.
    """
    name = params.selector or settings.selector
    found = calibration if calibration is not None and calibration.selector == name else None
    asked = params.recompute_ratio if params.recompute_ratio is not None else settings.recompute_ratio
    calibrated = found.recompute_ratio if found is not None else None
    ratio = next((r for r in (asked, calibrated) if r is not None), DEFAULTS.recompute_ratio)
    limited = found is not None and asked in (None, AUTO)
    return Terms(
        ratio=ratio,
        selector=name,
        max_residual=found.max_residual if found is not None else DEFAULTS.max_residual,
        give_up_residual=found.give_up_residual if found is not None and limited else None,
    )


def check_terms(terms: Terms) -> PrefillReason | None:
    """Why a blend on these terms is impossible, or None."""
    try:
        check_rule(terms.ratio, terms.selector)
    except RequestError as error:
        return PrefillReason(Reason.BAD_TERMS, str(error))
    return None


def check_request(request: Request) -> PrefillReason | None:
    """Why a request must be prefilled whatever its terms, or None."""
    if request.pooling_params is not None:
        return PrefillReason(Reason.POOLING, "pooling requests are not blended")
    if request.prompt_token_ids is None or request.prompt_embeds is not None or request.mm_features:
        return PrefillReason(Reason.NOT_TEXT, "the prompt holds more than text")
    if request.lora_request is not None:
        return PrefillReason(Reason.LORA, "chunk KV was computed without the LoRA adapter")
    if request.skip_reading_prefix_cache:
        return PrefillReason(
            Reason.ALL_TOKENS, "the request asks for every prompt token to be computed (prompt logprobs)"
        )
    if request.resumable:
        return PrefillReason(Reason.SESSION, "streaming-input sessions are not blended")
    return None
