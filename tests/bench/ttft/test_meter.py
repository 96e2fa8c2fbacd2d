"""FLOPs and stages of one request."""

import pytest

from bench.cost import blend_flops, full_flops
from bench.ttft.arm import AS_GIVEN, FULL, Arm, blend_at
from bench.ttft.backend import Reply
from bench.ttft.case import Case
from bench.ttft.meter import Measured, flops_share, stages_ms
from blend.report.stats import BlendStats, StageTimes, TokenCounts
from blend.select import selector
from tests.reference.fake_engines import SHAPE

PLAIN = BlendStats(fallback="it is plain")
BLENDED = BlendStats(
    times=StageTimes(match_ms=1, load_ms=2, realign_ms=3, select_ms=4, recompute_ms=5),
    selector="question-late",
    selected=(7, 9),
)
AGAIN = BlendStats(
    counts=TokenCounts(reused_tokens=100), times=StageTimes(match_ms=1), selector="question-late"
)


def measured(arm: Arm, hit: int, stats: BlendStats) -> Measured:
    return Measured(Case(), arm, 100, 20, 0.0, Reply(50.0, hit, 30.0, stats))


def test_full_prefill_costs_what_it_costs() -> None:
    assert flops_share(SHAPE, measured(FULL, 0, PLAIN)) == 1


def test_a_prefix_hit_costs_the_rest_only() -> None:
    share = flops_share(SHAPE, measured(AS_GIVEN, 60, PLAIN))
    positions = range(60, 120)
    rest = 2 * (2 * 100 * 60 + 4 * 8 * sum(p + 1 for p in positions)) + 2 * 1000
    assert share == pytest.approx(rest / full_flops(SHAPE, 120))


def test_a_blend_costs_what_was_recomputed_the_probe_and_the_suffix() -> None:
    share = flops_share(SHAPE, measured(blend_at(0.02), 100, BLENDED))
    rule = selector("question-late")
    assert share == blend_flops(SHAPE, rule, (7, 9), 100, 20) / full_flops(SHAPE, 120)


def test_a_blend_that_was_found_costs_no_probe() -> None:
    share = flops_share(SHAPE, measured(blend_at(0.02, "again"), 112, AGAIN))
    assert share == blend_flops(SHAPE, None, (), 112, 8) / full_flops(SHAPE, 120)
    assert share < flops_share(SHAPE, measured(blend_at(0.02), 100, BLENDED))


def test_stages_add_up_to_the_time_and_say_what_is_left() -> None:
    stages = stages_ms(Reply(50.0, 100, 30.0, BLENDED))
    assert stages == {
        "match": 1, "load": 2, "realign": 3, "select": 4, "recompute": 5, "write": 0,
        "suffix": 30, "scheduling": 5,
    }  # fmt: skip
    assert sum(stages.values()) == 50


def test_without_the_engine_s_own_figure_suffix_and_scheduling_are_not_told_apart() -> None:
    assert stages_ms(Reply(50.0, 100, None, BLENDED))["rest"] == 35
    assert stages_ms(Reply(50.0, 0, None, PLAIN)) == {"rest": 50}


def test_what_was_not_blended_was_prefilled() -> None:
    assert stages_ms(Reply(50.0, 0, 30.0, PLAIN)) == {"prefill": 30, "scheduling": 20}
    unknown = BlendStats(times=StageTimes(match_ms=2), fallback="no known chunk in the prompt")
    assert stages_ms(Reply(50.0, 0, 30.0, unknown)) == {"match": 2, "prefill": 30, "scheduling": 18}
