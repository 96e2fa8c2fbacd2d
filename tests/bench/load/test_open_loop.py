"""Requests are sent on their schedule, whatever becomes of earlier ones."""

import asyncio
import time

import pytest

from bench.load.client import Outcome
from bench.load.figures import figures, percentiles
from bench.load.open_loop import Phase, open_loop
from bench.load.table import render_load
from bench.load.workload import Arrival


def test_arrivals_do_not_wait_for_answers() -> None:
    sent: list[float] = []
    all_sent = asyncio.Event()

    async def send(arrival: Arrival, due_s: float) -> Outcome:
        sent.append(time.perf_counter() - due_s)
        if len(sent) == len(arrivals):
            all_sent.set()
        await all_sent.wait()  # one after another they would wait for ever
        return Outcome(due_s, (time.perf_counter(),), time.perf_counter(), 1)

    arrivals = [Arrival(0.1 * number, "q", ()) for number in range(5)]
    phase = asyncio.run(open_loop(arrivals, send))
    assert all(late_s >= 0 for late_s in sent), "none is sent before it is due"
    assert [one.due_s - phase.begin_s for one in phase.outcomes] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_figures_keep_kinds_apart_and_count_what_failed() -> None:
    arrivals = (Arrival(0.0, "a", (1,)), Arrival(1.0, "b", ()), Arrival(2.0, "c", (1,)))
    outcomes = (
        Outcome(10.0, (10.5, 10.75), 11.0, 2, {"fallback": None}),
        Outcome(11.0, (11.1, 11.2), 12.0, 2, {"fallback": "no known chunk"}),
        Outcome(12.0, (15.0,), 18.0, 0, None, "no whole answer within 6 s"),
    )
    found = figures("blend", 1.0, Phase(10.0, arrivals, outcomes))
    assert (found.sent, found.finished, found.failed) == (3, 2, 1)
    assert found.ttft_ms == percentiles([500.0, 3000.0])
    assert found.short_ttft_ms is not None and found.short_ttft_ms.p50 == pytest.approx(100)
    assert found.itl_ms is not None and (found.itl_ms.num, found.itl_ms.max) == (2, 250.0)
    assert found.tokens_per_s == pytest.approx(4 / 8.0)
    assert found.blended_share == 0.5
    assert found.errors == ("no whole answer within 6 s",)
    head, row, *_ = render_load([found]).splitlines()
    assert len(head.split()) >= len(row.split()) and "50%" in row


def test_a_run_without_requests_has_figures_too() -> None:
    found = figures("full", 0.1, Phase(10.0, (), ()))
    assert (found.sent, found.ttft_ms, found.itl_ms, found.tokens_per_s) == (0, None, None, 0.0)
    assert " - " in render_load([found])
