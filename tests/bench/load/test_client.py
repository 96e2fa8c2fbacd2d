"""A stream becomes times, and whatever goes wrong becomes an outcome: over a real socket."""

import asyncio
import time

import pytest

from bench.load.client import Call, LoadClient, Outcome
from bench.load.figures import gaps_ms
from blend.errors import EngineNotReady
from tests.support.fake_vllm import FakeVllm


def ask(
    url: str, content: str, *, blend: bool = True, late_s: float = 0.0, timeout_s: float = 5.0
) -> Outcome:
    async def one() -> Outcome:
        async with LoadClient(url, timeout_s) as client:
            call = Call([{"role": "user", "content": content}], blend, "salt", 5)
            return await client.answer(call, time.perf_counter() - late_s)

    return asyncio.run(one())


def test_the_first_token_and_the_gaps_are_timed_and_the_opening_event_is_no_token(
    peer: FakeVllm, url: str
) -> None:
    peer.first_s, peer.next_s = 0.2, 0.1
    begun_s = time.perf_counter()
    outcome = ask(url, "plain")
    took_ms = (time.perf_counter() - begun_s) * 1e3
    assert outcome.error is None
    assert len(outcome.token_times_s) == outcome.output_tokens == 5
    assert outcome.ttft_ms is not None and outcome.ttft_ms >= 200
    gaps = gaps_ms(outcome.token_times_s)
    assert len(gaps) == 4 and 600 <= outcome.ttft_ms + sum(gaps) <= took_ms
    assert outcome.end_s >= outcome.token_times_s[-1]


def test_time_counts_from_when_the_request_was_due(url: str) -> None:
    begun_s = time.perf_counter()
    late = ask(url, "plain", late_s=2.0)
    took_ms = (time.perf_counter() - begun_s) * 1e3
    assert late.ttft_ms is not None and 2000 < late.ttft_ms < 2000 + took_ms


def test_both_arms_say_what_they_want_and_what_came_of_it(peer: FakeVllm, url: str) -> None:
    assert ask(url, "a chunk", blend=True).was_blended
    assert not ask(url, "a chunk", blend=False).was_blended
    bodies = [body for _, body in peer.bodies]
    assert [body["blend"] for body in bodies] == [{"enabled": True}, {"enabled": False}]
    assert {body["cache_salt"] for body in bodies} == {"salt"}
    assert all(body["ignore_eos"] and body["max_tokens"] == 5 for body in bodies)


@pytest.mark.parametrize(
    ("content", "tokens", "error"),
    [
        ("refuse", 0, "BadRequestError"),
        ("break off", 2, "closed connection"),
        ("go wrong", 2, "the engine has died"),
    ],
)
def test_what_goes_wrong_is_an_outcome(url: str, content: str, tokens: int, error: str) -> None:
    outcome = ask(url, content)
    assert outcome.error is not None and error in outcome.error
    assert len(outcome.token_times_s) == tokens


def test_an_answer_that_takes_too_long_is_left(peer: FakeVllm, url: str) -> None:
    peer.next_s = 60
    outcome = ask(url, "plain", timeout_s=1.0)
    assert outcome.error == "no whole answer within 1 s"
    assert len(outcome.token_times_s) == 1
    assert ask(url, "plain", timeout_s=1.0, late_s=3.0).token_times_s == ()


def test_without_a_server_it_is_said_so() -> None:
    with pytest.raises(EngineNotReady, match="is the server up"):
        ask("http://127.0.0.1:9", "plain")
