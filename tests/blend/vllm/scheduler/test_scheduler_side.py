"""The scheduler's half, on vLLM's own requests and block hashes."""

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from vllm.lora.request import LoRARequest
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.request import Request

from blend.chunks.chunk import ChunkKV, ChunkRecord, make_record
from blend.errors import ConfigError
from blend.plan.ratio import Ratio
from blend.plan.sharing import Sharing
from blend.report.detail import TokenState
from blend.report.stats import BlendStats, StageTimes, TokenCounts
from blend.settings.defaults import DEFAULTS
from blend.store.config import StoreConfig
from blend.store.layout import mark_of
from blend.store.stack import open_remote
from blend.store.tiers.disk import DiskStore
from blend.vllm.gate.verdict_file import Calibration, GateFile, Verdict
from blend.vllm.messages import BlendOutcome, BlendTask, PrefillReason, Reason, StepReport, TailTask
from blend.vllm.request_params import BlendParams
from blend.vllm.scheduler.controller import Rates
from blend.vllm.scheduler.known_chunks import KnownChunks
from blend.vllm.scheduler.lineage import KeptNames
from blend.vllm.scheduler.scheduler_side import SchedulerSide
from blend.vllm.settings import Settings, redact_remote
from blend.vllm.version import installed_vllm
from tests.support.storage_servers import RedisServer

PREFIX, FIRST, SECOND = (1, 2, 3), tuple(range(10, 40)), tuple(range(50, 90))
PROMPT = [*PREFIX, *SECOND, 5, *FIRST, 7, 8, 9]
CONTEXT = len(PROMPT) - 3
BLOCK = 16

init_none_hash(sha256)


class Blocks:
    """Blocks 0.. of a request, as the scheduler hands them over."""

    def get_block_ids(self) -> tuple[list[int], ...]:
        return (list(range(-(-len(PROMPT) // BLOCK))),)


def no_pages(request: Request) -> int:
    """What an engine finds in its cache whose cache is empty."""
    return 0


def stored(record: ChunkRecord) -> ChunkKV:
    rows = torch.zeros(2, record.num_tokens, 1, 4)
    return ChunkKV(record, rows, rows)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings(StoreConfig(path=tmp_path), "f" * 64, engine="cpu", gate_key="the self-check's")
    store = DiskStore(settings.chunks_folder)
    for ids in (FIRST, SECOND):
        store.put(stored(make_record(settings.fingerprint, PREFIX, ids)))
    store.put(stored(make_record(settings.fingerprint, (), PREFIX)))
    return settings


@pytest.fixture
def side(settings: Settings) -> SchedulerSide:
    GateFile(settings.verdict_file).write(Verdict(True, "agrees", installed_vllm()))
    return SchedulerSide(settings, BLOCK, no_pages)


def request(
    params: BlendParams | None = None,
    prompt: list[int] = PROMPT,
    sampling: SamplingParams | None = None,
    **more: Any,
) -> Request:
    sampling = sampling or SamplingParams(max_tokens=4, temperature=0)
    sampling.extra_args = {"kv_transfer_params": (params or BlendParams()).to_transfer()}
    return Request(
        "r", list(prompt), sampling, None, block_hasher=get_request_block_hasher(BLOCK, sha256), **more
    )


def test_known_chunks_are_found_in_any_order_and_filled_asynchronously(side: SchedulerSide) -> None:
    ours = request()
    side.add(ours)
    assert side.matched(ours, 0) == (CONTEXT, True)
    side.allocated(ours, Blocks(), CONTEXT)  # type: ignore[arg-type]
    (task,) = side.orders(decoding=False).tasks
    assert [(span.start, span.exact) for span in task.plan.spans] == [(0, True), (3, True), (44, False)]
    assert side.orders(decoding=False).tasks == ()


def test_a_blended_request_has_block_hashes_of_its_own(side: SchedulerSide) -> None:
    plain = request(BlendParams(enabled=False))
    before = list(plain.block_hashes)
    side.add(plain)
    assert plain.block_hashes == before and plain.cache_salt is None
    seen = {tuple(before)}
    for params in (BlendParams(), BlendParams(recompute_ratio=0.5), BlendParams(selector="first")):
        blended = request(params)
        side.add(blended)
        again = request(params)
        side.add(again)
        assert blended.block_hashes == again.block_hashes
        assert tuple(blended.block_hashes) not in seen
        assert not set(blended.block_hashes) & set(before)
        seen.add(tuple(blended.block_hashes))
    salted = request(cache_salt="a user's")
    side.add(salted)
    assert tuple(salted.block_hashes) not in seen


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: request(BlendParams(enabled=False)), "switched off"),
        (lambda: request(prompt=[4, 4, 4, 4]), "no known chunk"),
        (lambda: request(BlendParams(recompute_ratio=1.5)), "from 0 to 1"),
        (lambda: request(BlendParams(selector="nobody")), "nobody"),
        (lambda: request(lora_request=LoRARequest("a", 1, "/nowhere")), "LoRA"),
    ],
)
def test_what_is_not_blended_says_why_and_keeps_its_hashes(
    side: SchedulerSide, make: Callable[[], Request], words: str
) -> None:
    ours = make()
    before = list(ours.block_hashes)
    side.add(ours)
    assert side.matched(ours, 0) == (0, False)
    assert ours.block_hashes == before
    stats = side.remove("r")
    assert stats is not None and words in (stats.fallback or "")


def test_nothing_is_blended_before_the_gate_has_passed_but_the_self_check(settings: Settings) -> None:
    side = SchedulerSide(settings, BLOCK, no_pages)
    waiting = request()
    side.add(waiting)
    assert side.matched(waiting, 0) == (0, False)
    checking = request(BlendParams(gate_key="the self-check's"))
    side.add(checking)
    assert side.matched(checking, 0) == (CONTEXT, True)
    GateFile(settings.verdict_file).write(Verdict(True, "agrees", installed_vllm()))
    later = request()
    side.add(later)
    assert side.matched(later, 0) == (CONTEXT, True)


def test_a_chunk_stored_or_deleted_by_another_process_is_noticed(
    side: SchedulerSide, settings: Settings
) -> None:
    other = DiskStore(settings.chunks_folder)
    third = make_record(settings.fingerprint, PREFIX, range(100, 130))
    prompt = [*PREFIX, *third.token_ids, 9]
    cold = request(prompt=prompt)
    side.add(cold)
    assert side.matched(cold, 0) == (0, False)
    other.put(stored(third))
    warm = request(prompt=prompt)
    side.add(warm)
    assert side.matched(warm, 0) == (len(prompt) - 1, True)
    other.delete(third.chunk_id)
    gone = request(prompt=prompt)
    side.add(gone)
    assert side.matched(gone, 0) == (0, False)


def test_a_prefix_alone_and_a_few_known_words_are_left_to_the_engine(
    side: SchedulerSide, settings: Settings
) -> None:
    words = make_record(settings.fingerprint, PREFIX, range(200, 203))
    DiskStore(settings.chunks_folder).put(stored(words))
    for prompt in ([*PREFIX, *range(300, 340)], [*PREFIX, *range(300, 340), *words.token_ids, 9]):
        plain = request(prompt=prompt)
        before = list(plain.block_hashes)
        side.add(plain)
        assert side.matched(plain, 0) == (0, False)
        assert plain.block_hashes == before


def test_a_store_that_is_gone_costs_the_blend_and_not_the_engine(
    side: SchedulerSide, settings: Settings
) -> None:
    shutil.rmtree(settings.chunks_folder)
    known = request()
    side.add(known)
    assert side.matched(known, 0) == (CONTEXT, True), (
        "what is known stays known; the workers will find it cold"
    )
    KnownChunks(DiskStore(settings.chunks_folder)).find(PROMPT)


def test_chunks_of_a_remote_are_known_and_its_death_stalls_nobody(settings: Settings, tmp_path: Path) -> None:
    server = RedisServer()
    url = f"redis://127.0.0.1:{server.port}"
    store = StoreConfig(path=tmp_path / "b", remote=url, remote_deadline_ms=20_000)
    settings = replace(settings, store=store)
    remote = open_remote(settings.tiers, mark_of(settings.fingerprint))
    assert remote is not None
    for ids in (FIRST, SECOND):
        remote.put(stored(make_record(settings.fingerprint, PREFIX, ids)))
    GateFile(settings.verdict_file).write(Verdict(True, "agrees", installed_vllm()))
    side = SchedulerSide(settings, BLOCK, no_pages)
    known = request()
    side.add(known)
    assert side.matched(known, 0) == (CONTEXT, True)
    server.kill()
    slowest, matched = 0.0, (CONTEXT, True)
    until = time.monotonic() + 60
    while matched != (0, False) and time.monotonic() < until:
        ours = request()
        begun = time.monotonic()
        side.add(ours)
        matched = side.matched(ours, 0)
        slowest = max(slowest, time.monotonic() - begun)
        time.sleep(0.01)
    assert matched == (0, False), "it is left to the engine's own prefill"
    assert slowest < 5, "a quarter of what one call to the remote may take"


def test_a_remotes_secrets_are_not_in_what_vllm_logs(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "redis://me:swordfish@host:1/0"
    monkeypatch.delenv("KVBLEND_STORE_REMOTE", raising=False)
    plain = replace(settings, store=StoreConfig(remote=redact_remote("redis://host:1/0")))
    assert plain.tiers.remote == "redis://host:1/0" and "KVBLEND_STORE_REMOTE" not in os.environ
    monkeypatch.setenv("KVBLEND_STORE_REMOTE", "other")  # so that it is put back afterwards
    held = replace(settings, store=StoreConfig(remote=redact_remote(url)))
    secret = Settings.from_extra_config(held.to_extra_config())
    assert "swordfish" not in str(secret.to_extra_config())
    assert secret.tiers.remote == url
    monkeypatch.setenv("KVBLEND_STORE_REMOTE", "redis://me:x@elsewhere")
    with pytest.raises(ConfigError, match="set it to the whole URL"):
        _ = secret.tiers


def test_a_request_that_cannot_be_examined_is_prefilled_and_the_scheduler_lives_on(
    side: SchedulerSide,
) -> None:
    odd = request(prompt=[*PREFIX, *SECOND, 2**40, *FIRST, 9])  # no such token: it fits no salt
    before = list(odd.block_hashes)
    side.add(odd)
    assert side.matched(odd, 0) == (0, False)
    assert odd.block_hashes == before and odd.cache_salt is None
    stats = side.remove("r")
    assert stats is not None and "error" in (stats.fallback or "")


def test_statistics_add_up_and_leave_with_the_request(side: SchedulerSide) -> None:
    ours = request()
    side.add(ours)
    side.allocated(ours, Blocks(), CONTEXT - BLOCK)  # type: ignore[arg-type]
    outcome = BlendOutcome(
        "r", counts=TokenCounts(exact_tokens=27, reused_tokens=26, recomputed_tokens=4, cold_tokens=1)
    )
    side.report(StepReport({"r": outcome}))
    stats = side.remove("r")
    assert stats is not None and stats.fallback is None
    # The first block came from the engine's cache, where an earlier blend just like it had left it.
    assert stats.counts.reused_tokens == BLOCK + 26
    assert (
        stats.counts.cached_tokens + stats.counts.recomputed_tokens + stats.counts.cold_tokens
        == stats.context_tokens
        == CONTEXT
    )
    assert side.remove("r") is None


def test_a_blend_found_whole_in_the_engines_cache_counts_as_reused(side: SchedulerSide) -> None:
    ours = request()
    side.add(ours)
    assert side.matched(ours, CONTEXT) == (0, False)
    side.allocated(ours, Blocks(), 0)  # type: ignore[arg-type]
    stats = side.remove("r")
    assert stats is not None and stats.counts.reused_tokens == CONTEXT


FOUND = CONTEXT - CONTEXT % BLOCK
"""Tokens in whole blocks of the context."""


def test_what_a_found_blend_lacks_of_a_block_is_prefilled_where_no_worker_keeps_it(
    side: SchedulerSide,
) -> None:
    ours, found = request(), FOUND
    side.add(ours)
    assert side.matched(ours, found) == (0, False)
    side.allocated(ours, Blocks(), 0)  # type: ignore[arg-type]
    assert side.orders(decoding=False).tasks == ()
    stats = side.remove(ours.request_id)
    assert stats is not None
    assert (stats.counts.reused_tokens, stats.counts.recomputed_tokens) == (found, CONTEXT - found)


def blend_once(side: SchedulerSide, ours: Request) -> BlendTask:
    """The request is blended and answered; the workers keep its tail, where they are told to."""
    side.add(ours)
    assert side.matched(ours, 0) == (CONTEXT, True)
    side.allocated(ours, Blocks(), CONTEXT)  # type: ignore[arg-type]
    (task,) = side.orders(decoding=False).tasks
    done = BlendOutcome(
        "r",
        counts=TokenCounts(reused_tokens=CONTEXT),
        tail=task.tail_as,
        tail_bytes=100 if task.tail_as else 0,
    )
    side.report(StepReport({"r": done}))
    side.remove("r")
    return task


def test_a_blend_that_is_asked_for_again_gets_its_own_last_rows_back(side: SchedulerSide) -> None:
    task = blend_once(side, request())
    again = request()
    side.add(again)
    assert task.tail_as == again.cache_salt
    assert side.matched(again, FOUND) == (CONTEXT - FOUND, True)
    side.allocated(again, Blocks(), CONTEXT - FOUND)  # type: ignore[arg-type]
    orders = side.orders(decoding=False)
    assert orders.tails == (TailTask("r", task.tail_as, FOUND // BLOCK),) and orders.tasks == ()
    stats = side.remove("r")
    assert stats is not None and (stats.counts.reused_tokens, stats.counts.recomputed_tokens) == (CONTEXT, 0)


def test_a_context_that_ends_with_its_block_has_no_tail(side: SchedulerSide, settings: Settings) -> None:
    even = make_record(settings.fingerprint, PREFIX, range(100, 100 + 2 * BLOCK - len(PREFIX)))
    DiskStore(settings.chunks_folder).put(stored(even))
    ours = request(prompt=[*PREFIX, *even.token_ids, 7, 8])
    side.add(ours)
    side.allocated(ours, Blocks(), 2 * BLOCK)  # type: ignore[arg-type]
    (task,) = side.orders(decoding=False).tasks
    assert task.tail_as is None


def test_a_prompt_that_is_asked_again_is_shown_what_it_was_shown_at_first(side: SchedulerSide) -> None:
    long = [*PROMPT, *range(300, 300 + 2 * BLOCK)]
    first = request(prompt=long)
    hashes = len(first.block_hashes)
    blend_once(side, first)
    again = request(prompt=long)
    side.add(again)
    assert len(again.block_hashes) == FOUND // BLOCK < hashes, "blocks of the question are not found"
    assert side.matched(again, FOUND) == (CONTEXT - FOUND, True)
    assert len(again.block_hashes) == hashes, "or they could not be cached"
    # There was no room for it: vLLM has looked again, and is to look once more.
    assert side.matched(again, hashes * BLOCK) == (None, False)
    assert len(again.block_hashes) == FOUND // BLOCK
    assert side.matched(again, FOUND) == (CONTEXT - FOUND, True)


def test_an_answer_that_is_drawn_at_random_finds_all_that_there_is(side: SchedulerSide) -> None:
    long = [*PROMPT, *range(300, 300 + 2 * BLOCK)]
    blend_once(side, request(prompt=long))
    for sampling, is_shown_all in (
        (SamplingParams(temperature=0.7), True),
        (SamplingParams(temperature=0.7, seed=1), False),
        (SamplingParams(temperature=0), False),
    ):
        again = request(prompt=long, sampling=sampling)
        side.add(again)
        whole = len(long) // BLOCK
        assert (len(again.block_hashes) == whole) is is_shown_all


def test_of_a_blend_that_was_evicted_in_part_nothing_is_taken(side: SchedulerSide) -> None:
    blend_once(side, request())
    again = request()
    whole = len(again.block_hashes)
    side.add(again)
    assert side.matched(again, FOUND - BLOCK) == (None, False)
    assert again.block_hashes == []
    assert side.matched(again, 0) == (CONTEXT, True)
    assert len(again.block_hashes) == whole


def test_a_request_that_gave_way_takes_what_is_left_of_its_blocks(side: SchedulerSide) -> None:
    ours = request()
    side.add(ours)
    side.allocated(ours, Blocks(), CONTEXT)  # type: ignore[arg-type]
    side.report(StepReport({"r": BlendOutcome("r", counts=TokenCounts(reused_tokens=CONTEXT))}))
    assert side.matched(ours, BLOCK) == (CONTEXT - BLOCK, True)
    assert side.matched(ours, FOUND) == (CONTEXT - FOUND, True)


def test_a_tail_that_was_dropped_is_forgotten_by_the_workers_too(side: SchedulerSide) -> None:
    side._repeats.tails = KeptNames(150)
    one = blend_once(side, request())
    other = blend_once(side, request(BlendParams(recompute_ratio=0.5)))
    assert side.orders(decoding=False).dropped == (one.tail_as,)
    again = request()
    side.add(again)
    assert side.matched(again, FOUND) == (0, False), "its last rows are prefilled"
    assert other.tail_as != one.tail_as


def test_a_failed_blend_is_not_tried_again(side: SchedulerSide) -> None:
    ours = request()
    side.add(ours)
    side.allocated(ours, Blocks(), CONTEXT)  # type: ignore[arg-type]
    side.report(StepReport({"r": BlendOutcome("r", failure=PrefillReason(Reason.ERROR, "OSError: gone"))}))
    assert side.matched(ours, 0) == (0, False)
    stats = side.remove("r")
    assert stats is not None and stats.fallback == "OSError: gone" and stats.counts.cached_tokens == 0


def blends(side: SchedulerSide) -> dict[tuple[str, ...], float]:
    """What was counted of blends since this was last asked."""
    counted = side.meter.take().counts.items()
    return {labels: value for (name, labels), value in counted if name == "kvblend_blends"}


def test_each_blend_is_counted_once_with_its_tokens_and_stages(side: SchedulerSide) -> None:
    ours = request()
    side.add(ours)
    side.matched(ours, BLOCK)
    side.allocated(ours, Blocks(), CONTEXT - BLOCK)  # type: ignore[arg-type]
    outcome = BlendOutcome(
        "r",
        counts=TokenCounts(exact_tokens=2, reused_tokens=40, recomputed_tokens=12, cold_tokens=1),
        times=StageTimes(load_ms=4.0),
    )
    side.report(StepReport({"r": outcome}))
    side.remove("r")
    counted = side.meter.take()
    tokens = {kind: num for (name, (kind, *_)), num in counted.counts.items() if name.endswith("tokens")}
    assert tokens == {"found": BLOCK, "exact": 2, "reused": 40, "recomputed": 12, "cold": 1}
    assert counted.counts["kvblend_blends", ("blended", "")] == 1
    stages = {stage: seconds for (_, (stage,)), seconds in counted.observed.items()}
    assert set(stages) == {"match", "load", "realign", "select", "recompute", "write"}
    assert stages["load"] == (0.004,) and len(stages["match"]) == 1 and stages["match"][0] > 0


def test_a_context_that_is_found_is_counted_once_however_often_its_request_gives_way(
    side: SchedulerSide,
) -> None:
    ours = request()
    side.add(ours)
    for _ in range(2):
        side.matched(ours, CONTEXT)
        side.allocated(ours, Blocks(), 0)  # type: ignore[arg-type]
    side.remove("r")
    assert blends(side) == {("found", ""): 1}


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: request(BlendParams(enabled=False)), "switched_off"),
        (lambda: request(prompt=[4, 4, 4, 4]), "nothing_known"),
        (lambda: request(BlendParams(recompute_ratio=1.5)), "bad_terms"),
        (lambda: request(lora_request=LoRARequest("a", 1, "/nowhere")), "lora"),
    ],
)
def test_what_is_refused_is_counted_by_its_reason(
    side: SchedulerSide, make: Callable[[], Request], reason: str
) -> None:
    ours = make()
    side.add(ours)
    side.allocated(ours, Blocks(), 0)  # type: ignore[arg-type]
    side.remove("r")
    assert blends(side) == {("refused", reason): 1}


@pytest.mark.parametrize("reason", [Reason.RESIDUAL, Reason.ERROR])
def test_a_blend_that_was_given_up_is_refused_once_and_nothing_else(
    side: SchedulerSide, reason: Reason
) -> None:
    ours = request()
    side.add(ours)
    side.allocated(ours, Blocks(), CONTEXT)  # type: ignore[arg-type]
    for _ in range(2):  # another rank may say so later
        side.report(StepReport({"r": BlendOutcome("r", failure=PrefillReason(reason, "no"))}))
    side.allocated(ours, Blocks(), 0)  # type: ignore[arg-type]
    side.remove("r")
    assert blends(side) == {("refused", reason.value): 1}


def test_before_the_gate_has_passed_that_is_the_reason(settings: Settings) -> None:
    side = SchedulerSide(settings, BLOCK, no_pages)
    side.add(request())
    assert blends(side) == {("refused", "self_check"): 1}


def test_one_ranks_failure_is_the_requests_failure() -> None:
    good, bad = (
        BlendOutcome("r", counts=TokenCounts(reused_tokens=5)),
        BlendOutcome("r", failure=PrefillReason(Reason.ERROR, "no")),
    )
    assert StepReport({"r": good}).aggregate(StepReport({"r": bad})).outcomes["r"].failure == bad.failure
    assert StepReport({"r": bad}).aggregate(StepReport({"r": good})).outcomes["r"].failure == bad.failure


@pytest.mark.parametrize("trace", [True, False])
def test_the_rows_of_a_traced_request_are_asked_for_and_told(side: SchedulerSide, trace: bool) -> None:
    ours = request(BlendParams(trace=trace))
    side.add(ours)
    side.allocated(ours, Blocks(), CONTEXT)  # type: ignore[arg-type]
    (task,) = side.orders(decoding=False).tasks
    assert task.trace == trace
    rows = (4, 5, 50) if trace else ()
    side.report(StepReport({"r": BlendOutcome("r", counts=TokenCounts(recomputed_tokens=3), selected=rows)}))
    stats = side.remove("r")
    assert stats is not None and stats.selected == rows


def test_who_asks_is_told_what_became_of_each_row(side: SchedulerSide) -> None:
    ours = request(BlendParams(detail=True, selector="first"))
    side.add(ours)
    side.allocated(ours, Blocks(), CONTEXT - BLOCK)  # type: ignore[arg-type]
    (task,) = side.orders(decoding=False).tasks
    assert task.detail and task.start == BLOCK
    states = (TokenState.REUSED,) * (CONTEXT - BLOCK - 1) + (TokenState.RECOMPUTED,)
    outcome = BlendOutcome(
        "r", counts=TokenCounts(recomputed_tokens=1), states=states, scores=(0.5,) * (CONTEXT - BLOCK)
    )
    side.report(StepReport({"r": outcome}))
    stats = side.remove("r")
    assert stats is not None and stats.tokens is not None
    told = [(run.start, run.tokens, run.state.value, run.chunk) for run in stats.tokens.runs]
    # The prefix is a chunk of its own; token 43 stands between the two others.
    assert told == [
        (0, 3, "found", 0),
        (3, 13, "found", 1),
        (16, 27, "reused", 1),
        (43, 1, "reused", None),
        (44, 29, "reused", 2),
        (73, 1, "recomputed", 2),
    ]
    assert stats.tokens.scores == (None,) * BLOCK + (0.5,) * (CONTEXT - BLOCK)
    assert stats.tokens.measure == "minus the place in its chunk"
    assert BlendStats.from_json(json.loads(json.dumps(stats.to_json()))) == stats


def test_of_a_context_that_was_found_it_is_told_so(side: SchedulerSide) -> None:
    ours = request(BlendParams(detail=True))
    side.add(ours)
    side.matched(ours, 64)
    side.allocated(ours, Blocks(), 0)  # type: ignore[arg-type]
    stats = side.remove("r")
    assert stats is not None and stats.tokens is not None
    assert {run.state for run in stats.tokens.runs[:-1]} == {TokenState.FOUND}
    last = stats.tokens.runs[-1]
    assert (last.start, last.tokens, last.state) == (64, CONTEXT - 64, TokenState.RECOMPUTED)
    assert set(stats.tokens.scores) == {None}


def test_who_does_not_ask_is_told_nothing_of_rows(side: SchedulerSide) -> None:
    ours = request()
    side.add(ours)
    side.matched(ours, 64)
    side.allocated(ours, Blocks(), 0)  # type: ignore[arg-type]
    stats = side.remove("r")
    assert stats is not None and stats.tokens is None


CALIBRATION = Calibration(
    selector="question-late",
    tolerance=0.02,
    curve=((0.0, 0.1), (0.1, 0.01)),
    recompute_ratio=0.1,
    max_residual=0.06,
    give_up_residual=0.12,
    num_questions=10,
)


def calibrated(settings: Settings) -> SchedulerSide:
    verdict = Verdict(True, "agrees", installed_vllm(), calibration=CALIBRATION)
    GateFile(settings.verdict_file).write(verdict)
    return SchedulerSide(settings, BLOCK, no_pages)


def task_of(side: SchedulerSide, params: BlendParams) -> BlendTask:
    ours = request(params)
    side.add(ours)
    side.allocated(ours, Blocks(), CONTEXT)  # type: ignore[arg-type]
    (task,) = side.orders(decoding=False).tasks
    return task


@pytest.mark.parametrize(
    ("asked", "ratio", "limit"),
    [(None, 0.1, 0.12), ("auto", "auto", 0.12), (0.3, 0.3, None), (0.0, 0.0, None)],
)
def test_a_calibrated_model_has_a_ratio_of_its_own_and_a_limit_but_a_number_that_is_asked_for_is_given(
    settings: Settings, asked: Ratio | None, ratio: Ratio, limit: float | None
) -> None:
    task = task_of(calibrated(settings), BlendParams(recompute_ratio=asked))
    assert (task.ratio, task.max_residual, task.give_up_residual) == (ratio, 0.06, limit)


def test_without_calibration_the_default_ratio_holds_and_no_blend_is_given_up(side: SchedulerSide) -> None:
    task = task_of(side, BlendParams())
    assert task.ratio == DEFAULTS.recompute_ratio and task.give_up_residual is None


def test_the_ratio_auto_needs_a_selector_that_looks_at_the_question(side: SchedulerSide) -> None:
    ours = request(BlendParams(recompute_ratio="auto", selector="first"))
    side.add(ours)
    assert side.matched(ours, 0) == (0, False)
    stats = side.remove("r")
    assert stats is not None and stats.fallback is not None
    assert "expected a selector that looks at the question" in stats.fallback


@pytest.mark.parametrize("sharing", Sharing)
def test_another_question_finds_the_blend_as_it_is_only_where_blends_are_shared_so(
    settings: Settings, sharing: Sharing
) -> None:
    GateFile(settings.verdict_file).write(Verdict(True, "agrees", installed_vllm()))
    side = SchedulerSide(replace(settings, sharing=sharing.value), BLOCK, no_pages)
    one, other = request(), request(prompt=[*PROMPT[:-1], 99])
    side.add(one)
    side.add(other)
    assert (one.cache_salt == other.cache_salt) is (sharing is Sharing.AS_IS)


def test_another_question_is_topped_up_from_rows_that_the_workers_keep(settings: Settings) -> None:
    GateFile(settings.verdict_file).write(Verdict(True, "agrees", installed_vllm()))
    side = SchedulerSide(replace(settings, sharing="topped-up", kept_bytes=100), BLOCK, no_pages)
    first = task_of(side, BlendParams())
    assert first.onto is None and first.keep_as is not None
    side.report(StepReport({"r": BlendOutcome("r", kept_bytes=80)}))
    other = request(prompt=[*PROMPT[:-1], 99])
    side.add(other)
    side.allocated(other, Blocks(), CONTEXT)  # type: ignore[arg-type]
    (second,) = side.orders(decoding=False).tasks
    assert second.onto == second.keep_as == first.keep_as
    side.report(StepReport({"r": BlendOutcome("r", kept_bytes=120)}))
    assert side.orders(decoding=False).dropped == (first.keep_as,)


def test_rows_that_were_found_and_evicted_before_they_were_taken_are_blended_anew(settings: Settings) -> None:
    GateFile(settings.verdict_file).write(Verdict(True, "agrees", installed_vllm()))
    held: list[int] = [0]
    side = SchedulerSide(settings, BLOCK, lambda _: held[0])
    first = request()
    side.add(first)
    held[0] = CONTEXT
    follow_up = request(prompt=[*PROMPT, 20, 21])
    side.add(follow_up)
    assert follow_up.cache_salt == first.cache_salt
    assert side.matched(follow_up, BLOCK) == (None, False)
    assert follow_up.cache_salt != first.cache_salt
    assert side.matched(follow_up, 0) == (CONTEXT, True)


RATES = Rates(num_layers=10, layer_s=1.0, row_s=1e-3, max_rows=(1000, 100))
"""Of layers that take a second each, whatever the rows: a blend has more passes than prefill."""


@pytest.mark.parametrize("always", [False, True])
def test_what_is_sooner_prefilled_is_prefilled_unless_blends_are_asked_for(
    settings: Settings, always: bool
) -> None:
    GateFile(settings.verdict_file).write(Verdict(True, "agrees", installed_vllm()))
    side = SchedulerSide(replace(settings, always_blends=always), BLOCK, no_pages)
    side.report(StepReport(rates=RATES))
    own, asked = BlendParams(gate_key="the self-check's"), BlendParams(recompute_ratio=0.15)
    for params, blended in ((BlendParams(), always), (own, True), (asked, True)):
        ours = request(params)
        side.add(ours)
        assert side.matched(ours, 0)[1] is blended
        stats = side.remove("r")
        assert stats is not None
        assert (stats.fallback is None) is blended
        assert blended or "full prefill is predicted to be sooner" in str(stats.fallback)


def test_a_rule_that_does_not_look_at_the_question_is_found_by_every_question(side: SchedulerSide) -> None:
    params = BlendParams(selector="deviation")
    one, other = request(params), request(params, prompt=[*PROMPT[:-1], 99])
    side.add(one)
    side.add(other)
    assert one.cache_salt == other.cache_salt


def test_a_calibration_holds_for_its_own_selector_and_not_against_the_servers_ratio(
    settings: Settings,
) -> None:
    side = calibrated(settings)
    assert task_of(side, BlendParams(selector="first")).ratio == DEFAULTS.recompute_ratio
    task = task_of(calibrated(replace(settings, recompute_ratio=0.02)), BlendParams())
    assert task.ratio == 0.02 and task.give_up_residual is None


def test_a_request_whose_blend_was_given_up_gets_its_own_salt_back(settings: Settings) -> None:
    side, ours = calibrated(settings), request(cache_salt="mine")
    hashes = list(ours.block_hashes)
    side.add(ours)
    side.allocated(ours, Blocks(), CONTEXT)  # type: ignore[arg-type]
    assert ours.cache_salt != "mine"
    side.report(
        StepReport(
            {"r": BlendOutcome("r", residual=0.4, failure=PrefillReason(Reason.RESIDUAL, "too much is left"))}
        )
    )
    assert ours.cache_salt == "mine" and ours.block_hashes == hashes
    stats = side.remove("r")
    assert stats is not None and (stats.fallback, stats.residual) == ("too much is left", 0.4)


def test_a_blend_that_may_be_given_up_and_one_that_may_not_have_different_salts(settings: Settings) -> None:
    side = calibrated(settings)
    may, may_not = request(), request(BlendParams(recompute_ratio=0.1))
    side.add(may)
    side.add(may_not)
    assert may.cache_salt != may_not.cache_salt
