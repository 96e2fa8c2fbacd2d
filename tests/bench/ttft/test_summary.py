"""Rows of the table from single requests."""

import pytest

from bench.cost import blend_flops, full_flops
from bench.ttft.arm import FULL, Arm, blend_at
from bench.ttft.backend import Reply
from bench.ttft.case import Case
from bench.ttft.meter import Measured
from bench.ttft.summary import growth, summarise
from blend.errors import RequestError
from blend.report.stats import BlendStats, StageTimes
from blend.select import selector
from tests.reference.fake_engines import SHAPE

KEYS = [
    "name",
    "ratio",
    "context_tokens",
    "suffix_tokens",
    "tier",
    "ttft_ms_median",
    "ttft_ms_p90",
    "cpu_ms_median",
    "speedup",
    "bound",
    "fraction_of_bound",
    "stages_ms",
    "n",
    "ttft_ms_mean",
    "hit_share",
    "chunks",
    "chunk_tokens",
    "known",
    "at_once",
]
BLEND = blend_at(0.1)


def measured(arm: Arm, ms: float, context: int = 100, case: Case | None = None) -> Measured:
    if arm == FULL:
        reply = Reply(ms, 0, ms - 1, BlendStats(fallback="it is plain"))
    else:
        picks = tuple(range(context // 10))
        stats = BlendStats(
            times=StageTimes(select_ms=1.0, recompute_ms=ms / 2), selector="question-late", selected=picks
        )
        reply = Reply(ms, context, 1.0, stats)
    return Measured(case or Case(), arm, context, 20, ms / 2, reply)


def test_medians_and_what_follows_from_them() -> None:
    times = [100.0, 900.0, 110.0, 90.0, 105.0]
    both = [measured(FULL, 10 * ms) for ms in times] + [measured(BLEND, ms) for ms in times]
    full, blend = summarise(both, SHAPE)
    assert (full.ttft_ms_median, full.speedup, full.bound, full.fraction_of_bound) == (1050, 1, 1, 1)
    assert (blend.ttft_ms_median, blend.cpu_ms_median, blend.num) == (105, 52.5, 5)
    assert blend.ttft_ms_p90 == pytest.approx(110 + 0.6 * (900 - 110))
    assert blend.speedup == 10
    flops = blend_flops(SHAPE, selector("question-late"), range(10), 100, 20)
    assert blend.bound == pytest.approx(full_flops(SHAPE, 120) / flops)
    # The bound of the same prompt: the counted FLOPs of both arms over the measured full prefill.
    bound_ms = full.ttft_ms_median * flops / full_flops(SHAPE, 120)
    assert blend.fraction_of_bound == pytest.approx(bound_ms / blend.ttft_ms_median)
    assert sum(blend.stages_ms.values()) == pytest.approx(105), "stages of the request of median time"
    assert list(blend.to_json()) == KEYS


def test_each_case_is_held_against_its_own_full_prefill() -> None:
    small, large = Case(chunks=2), Case(chunks=4)
    rows = summarise(
        [
            measured(FULL, 100.0, 100, small),
            measured(BLEND, 50.0, 100, small),
            measured(FULL, 400.0, 200, large),
            measured(BLEND, 100.0, 200, large),
        ],
        SHAPE,
    )
    assert [row.speedup for row in rows] == [1, 2, 1, 4]
    assert growth(rows) == {"full": pytest.approx(2.0), "blend at 0.1": pytest.approx(1.0)}


def test_one_length_gives_no_exponent() -> None:
    assert growth(summarise([measured(FULL, 100.0), measured(BLEND, 50.0)], SHAPE)) == {}


def test_without_a_full_prefill_there_is_no_speed_up() -> None:
    with pytest.raises(RequestError, match="got no full prefill"):
        summarise([measured(BLEND, 50.0)], SHAPE)
