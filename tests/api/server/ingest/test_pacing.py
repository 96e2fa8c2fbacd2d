"""Ingestion rests in proportion to its work while others are served, and only then."""

import time

import numpy as np
import pytest

from api.server.ingest.pacing import Interrupted, Interruption, Pace, PacedEmbedder
from tests.support.word_embedder import WordEmbedder


def rested(pace: Pace, worked_s: float) -> float:
    begin_s = time.monotonic()
    pace.rest(worked_s, begin_s)
    return time.monotonic() - begin_s


def test_work_takes_its_share_of_the_time_and_no_more():
    assert 0.2 <= rested(Pace(0.25, lambda: True), 0.05) < 0.35
    assert rested(Pace(1.0, lambda: True), 0.05) < 0.1


def test_nobody_rests_for_an_idle_engine():
    assert rested(Pace(0.01, lambda: False), 1.0) < 0.02


def test_a_rest_ends_when_the_last_request_does():
    end_s = time.monotonic() + 0.1
    assert 0.1 <= rested(Pace(0.01, lambda: time.monotonic() < end_s), 1.0) < 0.3


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
