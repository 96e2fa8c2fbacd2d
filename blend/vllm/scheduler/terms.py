"""What one request's blend is to be, from what the request, the server and the calibration say."""

from dataclasses import dataclass

from blend.plan.ratio import AUTO, Ratio
from blend.settings.defaults import DEFAULTS
from blend.vllm.gate.verdict_file import Calibration
from blend.vllm.request_params import BlendParams
from blend.vllm.settings import Settings


@dataclass(frozen=True, slots=True)
class Terms:
    """Resolved options of one blend; all of them are part of its cache salt.

    Attributes:
        max_residual: what the ratio "auto" may leave.
        give_up_residual: a blend that would leave more is left to full prefill; None: never.
    """

    ratio: Ratio
    selector: str
    max_residual: float
    give_up_residual: float | None


def terms_of(params: BlendParams, settings: Settings, calibration: Calibration | None) -> Terms:
    """The terms of a request.

    A calibration speaks for the selector that it was made with. Its limit holds where its ratio does, or
    "auto"; a number that somebody asks for is what they get.
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
