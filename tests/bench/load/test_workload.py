"""Arrivals and what they ask for: pure functions of a seed."""

import numpy as np
import pytest

from bench.load.workload import Arrival, Corpus, Mix, poisson_arrivals, prompt_row, workload

MIX = Mix(passages=3, share=0.25, exponent=1.0)


def test_arrivals_come_at_the_rate_and_without_a_memory() -> None:
    times = np.array(poisson_arrivals(5.0, 2000.0, np.random.default_rng(1)))
    assert len(times) == pytest.approx(10_000, rel=0.05)
    gaps = np.diff(times)
    assert gaps.min() >= 0 and times[-1] < 2000.0
    assert gaps.mean() == pytest.approx(0.2, rel=0.05)
    # Exponential gaps: as wide as their mean, and 1/e of them longer than it.
    assert gaps.std() == pytest.approx(0.2, rel=0.05)
    assert (gaps > 0.2).mean() == pytest.approx(np.exp(-1), abs=0.02)


def test_a_seed_gives_the_same_requests_and_another_gives_others() -> None:
    first = workload(8, MIX, 0.5, 60.0, (0, 1))
    assert first == workload(8, MIX, 0.5, 60.0, (0, 1))
    assert first != workload(8, MIX, 0.5, 60.0, (0, 2))


def test_the_share_of_requests_with_chunks_is_as_asked() -> None:
    many = workload(8, MIX, 10.0, 500.0, (0,))
    with_chunks = [one for one in many if one.chunks]
    assert len(with_chunks) / len(many) == pytest.approx(0.25, abs=0.03)
    assert all(len(set(one.chunks)) == 3 for one in with_chunks)
    assert len({one.question for one in many}) == len(many)


def test_another_share_leaves_times_and_chunks_as_they_are() -> None:
    few, all_ = (workload(8, Mix(3, share, 1.0), 1.0, 60.0, (0,)) for share in (0.25, 1.0))
    assert [one.at_s for one in few] == [one.at_s for one in all_]
    assert any(one.chunks for one in few)
    assert all(one in all_ for one in few if one.chunks)


def test_chunks_stand_behind_the_prefix_in_the_order_that_was_drawn() -> None:
    corpus = Corpus("Read.", ("A", "B", "C"), system_role=True)
    assert corpus.messages("Why?", (2, 0)) == [
        {"role": "system", "content": "Read."},
        {"role": "user", "content": "C\n\nA\n\nWhy?"},
    ]
    assert prompt_row(corpus, Arrival(0.0, "Why?", (2, 0)), 7) == {
        "prompt": "C\n\nA\n\nWhy?",
        "output_tokens": 7,
    }
