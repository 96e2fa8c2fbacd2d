"""A peer that streams tokens over a real socket."""

from collections.abc import Iterator

import pytest

from tests.support.fake_vllm import FakeVllm, fake_vllm_server


@pytest.fixture
def peer() -> FakeVllm:
    return FakeVllm()


@pytest.fixture
def url(peer: FakeVllm) -> Iterator[str]:
    with fake_vllm_server(peer) as base:
        yield base
