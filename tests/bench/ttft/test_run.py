"""A run from its plan to what was measured, with engines that have no model."""

from collections import Counter

import pytest

from bench.ttft import run as run_module
from bench.ttft.arm import AS_GIVEN, BLEND, FULL, PLAIN, REUSE, SORTED, blend_at
from bench.ttft.case import DISK_COLD, Case
from bench.ttft.cpu import Threads
from bench.ttft.prompts import PromptMaker, built_in_texts
from bench.ttft.run import Outcome, Plan, run, shares
from bench.ttft.script import Script
from bench.ttft.summary import Summary, summarise
from blend.errors import RequestError
from blend.report.stats import BlendStats
from tests.reference.fake_engines import FakeEngines

CASE = Case(chunks=3, tokens=64, question_tokens=8)
RATIOS = (0.05, 0.15)


def measure(engines: FakeEngines, plan: Plan) -> Outcome:
    maker = PromptMaker(engines.tokenizer, built_in_texts())
    return run(engines, maker, Script(maker, RATIOS, stream_pool=6), plan)


def rows(outcome: Outcome) -> dict[str, Summary]:
    return {row.arm.label: row for row in summarise(outcome.measured, FakeEngines.shape)}


def test_arms_take_turns_on_the_same_new_prompt() -> None:
    engines = FakeEngines()
    outcome = measure(engines, Plan("compare", (CASE,), 3, 0))
    once = ["full", "reuse at 0", "blend at 0.05", "blend at 0.15", "again at 0.15"]
    assert [one.arm.label for one in outcome.measured] == once * 3
    asked = engines.asked[-15:]
    prompts = [
        {request.prompt.ids for _, _, requests in asked[i : i + 5] for request in requests}
        for i in (0, 5, 10)
    ]
    assert [len(alike) for alike in prompts] == [1, 1, 1]
    assert len(set.union(*prompts)) == 3
    chunks = {ids for _, _, requests in asked for request in requests for ids in [request.prompt.context_ids]}
    assert all(any(chunk == ids[-64:] for chunk in engines.stored) for ids in chunks)


def test_every_request_has_a_salt_of_its_own_but_those_that_are_to_find_something() -> None:
    engines = FakeEngines()
    measure(engines, Plan("compare", (CASE,), 2, 8))
    salts: dict[str, Counter[str]] = {}
    for _, arm, requests in engines.asked:
        salts.setdefault(arm.label, Counter()).update(request.salt for request in requests)
    assert all(
        max(salts[label].values()) == 1 for label in ("full", "reuse at 0", "blend at 0.05", "again at 0.15")
    )
    assert set(salts["again at 0.15"]) == set(salts["blend at 0.15"])
    assert len(salts[AS_GIVEN.label]) == len(salts[SORTED.label]) == 1
    assert salts[AS_GIVEN.label].keys() != salts[SORTED.label].keys()


def test_what_the_arms_come_to() -> None:
    found = rows(measure(FakeEngines(), Plan("compare", (CASE,), 3, 12)))
    assert found["full"].hit_share == 0
    assert found["again at 0.15"].ttft_ms_median < found["blend at 0.05"].ttft_ms_median
    assert found["blend at 0.05"].speedup > found["blend at 0.15"].speedup > 1
    assert found[AS_GIVEN.label].num == found[SORTED.label].num == 12
    assert found[SORTED.label].hit_share > found[AS_GIVEN.label].hit_share > 0
    assert found["blend at 0.15"].hit_share < 1


def test_before_the_first_measurement_every_stored_chunk_is_read_in_both_versions() -> None:
    engines = FakeEngines()
    measure(engines, Plan("compare", (CASE,), 1, 0))
    touched = [requests[0].prompt.context_ids for _, arm, requests in engines.asked if arm == REUSE]
    prefix = PromptMaker(engines.tokenizer, built_in_texts()).prefix_ids
    for chunk in engines.stored:
        places = {ids[i : i + 64] == chunk and i for ids in touched for i in range(len(ids) - 63)} - {False}
        assert len(prefix) in places and len(places) > 1


def test_nothing_is_stored_of_what_is_to_be_unknown() -> None:
    engines = FakeEngines()
    outcome = measure(engines, Plan("known", (Case(3, 64, 8, known=0.0),), 2, 0))
    assert not engines.stored
    assert {one.arm for one in outcome.measured} == {FULL, *map(blend_at, RATIOS)}


def test_a_conversation_is_had_with_both_engines() -> None:
    engines = FakeEngines()
    found = rows(measure(engines, Plan("conversation", (CASE,), 2, 0)))
    assert list(found) == [
        "full", "blend at 0.15",
        "full, again", "again at 0.15",
        "full, other question", "other question at 0.15",
        "full, follow-up", "follow-up at 0.15",
    ]  # fmt: skip
    assert found["full, follow-up"].hit_share > 0.7, "plain vLLM finds the first turn in its prefix cache"
    by_salt = Counter(
        (engine, request.salt) for engine, _, requests in engines.asked[-8:] for request in requests
    )
    assert sorted(by_salt.values()) == [4, 4] and {engine for engine, _ in by_salt} == {PLAIN, BLEND}


def test_requests_that_arrive_together_are_asked_in_one_call() -> None:
    engines = FakeEngines()
    outcome = measure(engines, Plan("together", (Case(3, 64, 8, at_once=4),), 2, 0))
    assert len(outcome.measured) == 2 * 3 * 4
    _, _, requests = engines.asked[-1]
    assert (
        len({request.prompt.ids for request in requests}) == len({request.salt for request in requests}) == 4
    )


def test_files_are_dropped_before_each_blend_from_a_cold_disk_and_before_nothing_else() -> None:
    engines = FakeEngines()
    measure(engines, Plan("tier", (CASE, Case(3, 64, 8, tier=DISK_COLD)), 2, 0))
    assert engines.dropped == (2 + 1) * len(RATIOS)


def test_a_blend_that_fell_back_is_not_counted_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = FakeEngines()
    monkeypatch.setattr(FakeEngines, "_answer", lambda *_: _fallen())
    with pytest.raises(RequestError, match="did not blend the prompt of reuse at 0: the disk is gone"):
        measure(engines, Plan("compare", (CASE,), 1, 0))


def _fallen() -> object:
    from bench.ttft.backend import Reply

    return Reply(1.0, 0, 1.0, BlendStats(fallback="the disk is gone"))


def test_engines_with_different_threads_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    class Watch:
        seen_by = iter([None, Threads(2, (0, 1)), Threads(1, (0,))])

        def __init__(self, pids: object) -> None: ...

        def seen(self) -> Threads | None:
            return next(self.seen_by)

    monkeypatch.setattr(run_module, "ThreadWatch", Watch)
    monkeypatch.setattr(FakeEngines, "device", "cpu")
    with pytest.raises(RequestError, match="got engines with different threads"):
        measure(FakeEngines(), Plan("compare", (CASE,), 1, 0))


def test_all_of_a_stream_is_asked() -> None:
    assert sum(shares(20, 6)) == 20
    assert shares(2, 5) == [0, 0, 1, 0, 1]
