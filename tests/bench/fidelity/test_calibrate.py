"""What follows from a curve: the smallest ratio that keeps within the tolerance, or no blending at all."""

from dataclasses import replace

import pytest

from bench.fidelity.backend import Outcome
from bench.fidelity.calibrate import RATIOS, built_in_questions, calibrate, conclude
from bench.fidelity.method import Method
from bench.fidelity.question import LabPrompt
from bench.fidelity.scores import Scores
from blend.vllm.gate.verdict_file import Verdict, judged
from tests.reference.random_backend import RandomBackend

PASSED = Verdict(True, "agrees with full prefill", "vllm 0.0")


def scored(kl: float, residual: float) -> Scores:
    method = Method("m", "led", "question-late", None, 0.0)
    numbers = dict.fromkeys(("top1", "f1", "em", "full_f1", "full_em", "flops_share", "ms", "full_ms"), 0.0)
    return Scores(
        question="q",
        method=method,
        kl_mean=kl,
        kl_first=kl,
        answer_tokens=1,
        match_tokens=1,
        catastrophic=False,
        gold_margin=None,
        key_error=(),
        value_error=(),
        text="",
        full_text="",
        selected=(),
        residual=residual,
        **numbers,
    )


def curve(*kl: float) -> dict[float, list[Scores]]:
    return {
        ratio: [scored(one, 0.3 - ratio), scored(one, 0.1)] for ratio, one in zip(RATIOS, kl, strict=False)
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


def test_it_asks_the_built_in_questions_at_every_ratio() -> None:
    asked: set[tuple[str, float]] = set()

    class Asked(RandomBackend):
        def measure(self, prompt: LabPrompt, reference: object, method: Method) -> Outcome:
            asked.add((prompt.key, method.ratio))
            return super().measure(prompt, reference, method)  # type: ignore[arg-type]

    found = calibrate(Asked())
    assert asked == {(question.key, ratio) for question in built_in_questions() for ratio in RATIOS}
    assert [ratio for ratio, _ in found.curve] == list(RATIOS)
    kls = [kl for _, kl in found.curve]
    assert kls == sorted(kls, reverse=True)
