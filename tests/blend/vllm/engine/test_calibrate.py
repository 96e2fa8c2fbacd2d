"""What follows from a curve: the smallest ratio that keeps within the tolerance, or no blending at all."""

from dataclasses import replace

import pytest

from blend.vllm.engine.calibrate import RATIOS, Measurement, conclude
from blend.vllm.gate.verdict_file import Verdict, judged

PASSED = Verdict(True, "agrees with full prefill", "vllm 0.0")


def curve(*kl: float) -> dict[float, list[Measurement]]:
    """Two questions at each ratio: the residual of the first falls with the ratio."""
    return {
        ratio: [Measurement(one, 0.3 - ratio), Measurement(one, 0.1)]
        for ratio, one in zip(RATIOS, kl, strict=False)
    }


def test_the_smallest_ratio_from_which_on_the_curve_stays_within_the_tolerance_is_chosen() -> None:
    found = conclude(curve(0.1, 0.01, 0.05, 0.015, 0.01), tolerance=0.02)
    assert found.recompute_ratio == 0.1, "0.02 lies within it too, but 0.05 does not"
    assert found.max_residual == pytest.approx((0.2 + 0.1) / 2)
    assert found.give_up_residual == pytest.approx(2 * 0.2)
    assert found.curve == ((0.0, 0.1), (0.02, 0.01), (0.05, 0.05), (0.1, 0.015), (0.15, 0.01))


def test_a_model_that_reuse_is_good_enough_for_recomputes_nothing() -> None:
    assert conclude(curve(0.01, 0.01), tolerance=0.02).recompute_ratio == 0.0


def test_a_model_whose_curve_stays_above_is_not_blended_and_the_verdict_says_why() -> None:
    verdict = judged(PASSED, conclude(curve(0.5, 0.4, 0.3), tolerance=0.02))
    assert not verdict.passed
    assert verdict.reason == "at ratio 0.05 mean KL to full prefill is 0.3, above the tolerance of 0.02"
    assert verdict.calibration is not None and verdict.calibration.recompute_ratio is None


def test_calibrating_does_not_make_good_what_the_self_check_refused() -> None:
    refused = replace(PASSED, passed=False, reason="its attention mask looks ahead")
    assert judged(refused, conclude(curve(0.01), tolerance=0.02)).reason == refused.reason
