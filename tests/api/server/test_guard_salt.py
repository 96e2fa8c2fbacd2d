"""The salt of a prompt's namespace reaches the engine in whatever form the prompt has."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from api.server.guard import GuardedEngine, with_salt
from api.server.surface.request import namespace_in_force
from blend.chunks.namespace import salted
from tests.support.engine_outputs import Params

SALT = salted("ann", None)


@dataclass
class CoreRequest:
    """As vLLM's `EngineCoreRequest`."""

    cache_salt: str | None = None


@dataclass(frozen=True)
class StreamingInput:
    """As vLLM's own."""

    prompt: dict[str, Any]
    sampling_params: None = None


@pytest.mark.parametrize(
    ("prompt", "salted"),
    [
        ("text", {"prompt": "text", "cache_salt": SALT}),
        ([1, 2], {"prompt_token_ids": [1, 2], "cache_salt": SALT}),
        (
            {"type": "token", "prompt_token_ids": [1]},
            {"type": "token", "prompt_token_ids": [1], "cache_salt": SALT},
        ),
        (CoreRequest(), CoreRequest(SALT)),
        (
            {"encoder_prompt": {}, "decoder_prompt": [1]},
            {"encoder_prompt": {}, "decoder_prompt": {"prompt_token_ids": [1], "cache_salt": SALT}},
        ),
    ],
)
def test_every_form_is_salted_and_without_keys_none_is(prompt, salted):
    assert with_salt(prompt, "") == prompt
    assert with_salt(prompt, "ann") == salted


def test_what_cannot_be_salted_does_not_pass():
    with pytest.raises(TypeError, match="no cache salt"):
        with_salt(7, "ann")


def test_a_callers_salt_is_combined_and_never_enough():
    theirs = salted("ann", "x")
    assert theirs not in (SALT, "x", salted("bob", "x"))
    # Bob sends what Ann's prompts are salted with, and is still somebody else.
    assert salted("bob", theirs) != theirs
    assert with_salt({"cache_salt": "x"}, "ann") == {"cache_salt": theirs}


def test_a_stream_of_prompts_is_salted_as_it_comes():
    async def inputs():
        yield StreamingInput({"prompt_token_ids": [1]})

    async def collect() -> list[Any]:
        return [part async for part in with_salt(inputs(), "ann")]

    assert asyncio.run(collect())[0].prompt["cache_salt"] == SALT


@dataclass
class Output:
    """As much of vLLM's output as is counted; carries the prompt that the engine was given."""

    prompt: Any
    outputs: tuple[()] = ()


class Client:
    """As much of vLLM's engine client as tells what reached it."""

    errored = False

    async def generate(self, prompt, params, request_id):
        self.params = params
        yield Output(prompt)

    encode = generate


@pytest.mark.parametrize("way", ["generate", "encode"])
def test_the_engine_gets_the_namespace_in_force(way):
    client, params = Client(), Params()

    async def ask() -> Any:
        namespace_in_force.set("ann")
        outputs = getattr(GuardedEngine(client), way)({"prompt_token_ids": [1]}, params, "id")
        return [output.prompt async for output in outputs]

    assert asyncio.run(ask()) == [{"prompt_token_ids": [1], "cache_salt": SALT}]
    if way == "generate":  # and the blend is made of this namespace's chunks
        assert client.params.extra_args == {"kv_transfer_params": {"kvblend": {"namespace": "ann"}}}
    assert params.extra_args is None, "the caller's own stay as they are"
