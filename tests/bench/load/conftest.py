"""A peer that streams tokens over a real socket."""

from collections.abc import Iterator

import pytest

from tests.support.stand_in import StandIn, standing_in


@pytest.fixture
def peer() -> StandIn:
    return StandIn()


@pytest.fixture
def url(peer: StandIn) -> Iterator[str]:
    with standing_in(peer) as base:
        yield base
