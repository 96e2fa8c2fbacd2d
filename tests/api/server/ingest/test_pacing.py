"""Ingestion rests in proportion to its work while others are served, and only then."""

import numpy as np
import pytest

from api.server.ingest import pacing
from api.server.ingest.pacing import LOOK_EVERY_S, Interrupted, Interruption, Pace, PacedEmbedder
from tests.support.word_embedder import WordEmbedder


class Clock:
    """A clock that moves while somebody sleeps, and no further."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= LOOK_EVERY_S
        self.now_s += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(pacing, "time", clock)
    return clock


def rested(clock: Clock, pace: Pace, worked_s: float) -> float:
    begin_s = clock.now_s
    pace.rest(worked_s, begin_s)
    return clock.now_s - begin_s


def test_work_takes_its_share_of_the_time_and_no_more(clock):
    assert rested(clock, Pace(0.25, lambda: True), 0.05) == pytest.approx(0.2)
    assert rested(clock, Pace(1.0, lambda: True), 0.05) == pytest.approx(0.05)


def test_nobody_rests_for_an_idle_engine(clock):
    assert rested(clock, Pace(0.01, lambda: False), 1.0) == 0


def test_a_rest_ends_when_the_last_request_does(clock):
    end_s = clock.now_s + 0.1
    rest_s = rested(clock, Pace(0.01, lambda: clock.now_s < end_s), 1.0)
    assert 0.1 <= rest_s <= 0.1 + LOOK_EVERY_S


def test_a_paced_embedder_gives_the_same_vectors_and_stops_when_asked_to():
    interruption, texts = Interruption(), [f"text number {i}" for i in range(5)]
    paced = PacedEmbedder(WordEmbedder(), Pace(1.0, lambda: False), interruption)
    np.testing.assert_array_equal(paced.embed(texts), WordEmbedder().embed(texts))
    assert paced.embed([]).shape == (0, WordEmbedder.dim)
    interruption.ask()
    with pytest.raises(Interrupted):
        paced.embed(texts)
    interruption.clear()
    assert len(paced.embed(texts)) == 5
