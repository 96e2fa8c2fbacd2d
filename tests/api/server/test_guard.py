"""What routes may not do to the engine, and what they are told when it has died."""

import asyncio
from dataclasses import dataclass, field

import pytest

from api.server.errors import FieldError
from api.server.guard import GuardedEngine
from blend.errors import EngineNotReady
from tests.support.engine_outputs import Output, Params


@dataclass
class Client:
    """As much of vLLM's engine client as the guard touches."""

    outputs: list[Output]
    error: Exception | None = None
    errored: bool = False
    closed: list[bool] = field(default_factory=list)
    max_model_len = 7

    async def generate(self, prompt, sampling_params, request_id, **kwargs):
        try:
            for output in self.outputs:
                yield output
            if self.error is not None:
                raise self.error
        finally:
            self.closed.append(True)


A, B = Output([1]), Output([2])


def run(client: Client, params: Params) -> list[Output]:
    async def collect():
        return [output async for output in GuardedEngine(client).generate("p", params, "id", priority=1)]

    return asyncio.run(collect())


def test_outputs_and_everything_else_are_the_clients():
    client = Client([A, B])
    assert run(client, Params(extra_args={"kv_transfer_params": {"kvblend": {"enabled": False}}})) == [A, B]
    assert GuardedEngine(client).max_model_len == 7


def test_a_forbidden_parameter_is_refused_before_anything_is_iterated():
    with pytest.raises(FieldError, match="gate_key"):
        GuardedEngine(Client([])).generate(
            "p", Params(extra_args={"kv_transfer_params": {"kvblend": {"gate_key": "x"}}}), "id"
        )


def test_an_engine_that_dies_is_not_ready_and_a_request_that_fails_is_itself():
    with pytest.raises(EngineNotReady, match="died"):
        run(Client([A], RuntimeError("core"), errored=True), Params())
    with pytest.raises(ValueError, match="this request"):
        run(Client([A], ValueError("this request")), Params())
    assert isinstance(GuardedEngine(Client([])).dead_error, EngineNotReady)


def test_leaving_closes_the_clients_outputs():
    client = Client([A, B])

    async def leave():
        outputs = GuardedEngine(client).generate("p", Params(), "id")
        assert await anext(outputs) == A
        await outputs.aclose()

    asyncio.run(leave())
    assert client.closed == [True]
