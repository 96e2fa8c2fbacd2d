"""Which way to the first token is predicted to be sooner."""

import pytest

from blend.chunks.chunk import make_record
from blend.plan.plan import BlendPlan, make_plan
from blend.select import selector
from blend.vllm.messages import PrefillReason, Rates, Reason
from blend.vllm.scheduler.controller import Controller

LATE = selector("question-late")
NOTHING = PrefillReason(Reason.NOTHING_KNOWN, "no known chunk in the prompt")
LITTLE = PrefillReason(Reason.NOTHING_KNOWN, "too little of the prompt is known")
# A layer takes 1 ms, and 0.1 ms more for each row.
RATES = Rates(num_layers=10, layer_s=1e-3, row_s=1e-4, max_rows=(1000, 100))


def plan_of(known: int, unknown: int = 0, suffix: int = 10) -> BlendPlan:
    """Unknown tokens, then a chunk, then a question."""
    chunk = make_record("m", (), tuple(range(known)))
    prompt = [*[7] * unknown, *chunk.token_ids, *[8] * suffix]
    return make_plan(prompt, [(unknown, chunk)] if known else [])


def measured() -> Controller:
    controller = Controller()
    controller.learn_rates(RATES)
    return controller


def test_rates_count_passes_and_rows() -> None:
    assert RATES.prefill_s(1001) == pytest.approx(10 * (2e-3 + 0.1001))
    assert RATES.recompute_s(150) == pytest.approx(10 * (2e-3 + 0.015))
    assert RATES.probe_s(30, num_layers=10) == pytest.approx(10 * (1e-3 + 0.003))
    assert RATES.prefill_s(0) == RATES.probe_s(0, 10) == 0


def test_a_long_known_context_is_blended() -> None:
    assert measured().reason_to_prefill(plan_of(1000, unknown=30), LATE, 0.15) is None


@pytest.mark.parametrize("ratio", [0.9, 1.0])
def test_what_recomputes_nearly_all_is_prefilled(ratio: float) -> None:
    reason = measured().reason_to_prefill(plan_of(1000, unknown=30), LATE, ratio)
    assert reason is not None and reason.reason is Reason.PREFILL_SOONER
    assert reason.text.startswith("full prefill is predicted to be sooner: 1050 ms, a blend")


def test_a_mostly_unknown_context_is_prefilled() -> None:
    assert measured().reason_to_prefill(plan_of(100, unknown=900), LATE, 0.15) is not None
    assert measured().reason_to_prefill(plan_of(500, unknown=500), LATE, 0.15) is None


def test_a_small_context_is_prefilled() -> None:
    """30 rows take 40 ms; a blend of them has three passes beside its rows."""
    assert measured().reason_to_prefill(plan_of(30, unknown=2), LATE, 0.15) is not None


def test_a_rule_that_computes_whole_layers_is_charged_for_them() -> None:
    plan = plan_of(1000, unknown=30)
    assert measured().reason_to_prefill(plan, LATE, 0.75) is None
    assert measured().reason_to_prefill(plan, selector("deviation"), 0.75) is not None


def test_what_the_engine_holds_exactly_need_not_be_blended() -> None:
    plan, controller = plan_of(1000, unknown=30), measured()
    assert controller.reason_to_prefill(plan, LATE, 0.15, lambda: 500) is None
    reason = controller.reason_to_prefill(plan, LATE, 0.15, lambda: 1024)
    assert reason is not None and "behind the 1024 tokens that the engine holds" in reason.text


def test_the_cost_of_cached_rows_is_learned_from_blends() -> None:
    plan, controller = plan_of(1000, unknown=30), measured()
    controller.learn_cached(0, 5.0)
    assert controller.reason_to_prefill(plan, LATE, 0.15) is None
    controller.learn_cached(1000, 2.0)  # a slow disk: longer than computing them
    assert controller.reason_to_prefill(plan, LATE, 0.15) is not None
    for _ in range(10):
        controller.learn_cached(1000, 0.01)
    assert controller.reason_to_prefill(plan, LATE, 0.15) is None


def test_while_nothing_is_measured_a_tenth_must_be_known() -> None:
    controller = Controller()
    assert controller.reason_to_prefill(plan_of(100, unknown=900), LATE, 0.15) is None
    assert controller.reason_to_prefill(plan_of(99, unknown=901), LATE, 0.15) == LITTLE
    assert controller.reason_to_prefill(plan_of(100), LATE, 1.0) == NOTHING  # an exact beginning
    assert controller.reason_to_prefill(plan_of(15, unknown=3), LATE, 0.15) == NOTHING
    assert measured().reason_to_prefill(plan_of(0, unknown=900), LATE, 0.15) == NOTHING


def test_auto_is_taken_for_the_default_ratio() -> None:
    assert measured().reason_to_prefill(plan_of(1000, unknown=30), LATE, "auto") is None
