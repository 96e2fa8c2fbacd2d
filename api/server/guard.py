"""The engine as the routes see it: parameters checked, prompts salted by namespace, answers counted."""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from copy import copy
from dataclasses import replace
from types import AsyncGeneratorType
from typing import Any

from api.server.chat.options import check_transfer_params
from api.server.surface.draining import Drain
from api.server.surface.request import EngineCall, begin_call, namespace_in_force
from blend.chunks.namespace import salted
from blend.errors import EngineNotReady
from blend.vllm.request_params import KEY

_SALT = "cache_salt"
_DECODER = "decoder_prompt"


class GuardedEngine:
    """vLLM's engine client with checks.

    Every route calls `generate` or `encode`, also routes that take raw sampling parameters. So this one place
    checks the client's engine parameters, gives every prompt the cache salt of its namespace, and counts all
    answers. Everything else is delegated to the client.

    Args:
        client: vLLM's `EngineClient`.
        drain: waits for running requests before the engine shuts down; None waits for none.
        stop: stops other users of the engine before it shuts down.
    """

    def __init__(
        self, client: Any, drain: Drain | None = None, stop: Callable[[], None] | None = None
    ) -> None:
        self._client = client
        self._drain = drain
        self._stop = stop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    @property
    def dead_error(self) -> EngineNotReady:
        """The error that routes raise when the engine has died before an answer began."""
        return EngineNotReady("the engine has died; restart the server (its log says why)")

    def generate(self, prompt: Any, sampling_params: Any, request_id: str, **kwargs: Any) -> Any:
        """As `EngineClient.generate`; an invalid request raises at once, not when iterated.

        Raises:
            FieldError: the request sets engine parameters that are reserved.
        """
        extra = getattr(sampling_params, "extra_args", None) or {}
        check_transfer_params(extra.get("kv_transfer_params"))
        namespace = namespace_in_force.get()
        params = _within(namespace, sampling_params)
        outputs = self._client.generate(with_salt(prompt, namespace), params, request_id, **kwargs)
        return self._outputs(outputs, begin_call(sampling_params))

    def encode(self, prompt: Any, pooling_params: Any, request_id: str, *args: Any, **kwargs: Any) -> Any:
        """As `EngineClient.encode`."""
        salted = with_salt(prompt, namespace_in_force.get())
        outputs = self._client.encode(salted, pooling_params, request_id, *args, **kwargs)
        return self._outputs(outputs, begin_call(pooling_params))

    def shutdown(self, timeout: float | None = None) -> None:
        """As `EngineClient.shutdown`, after requests have finished. vLLM calls it in a separate thread."""
        if self._drain is not None:
            self._drain.wait()
        try:
            if self._stop is not None:
                self._stop()
        finally:
            self._client.shutdown(timeout=timeout)

    async def _outputs(
        self, outputs: AsyncGenerator[Any, None], call: EngineCall
    ) -> AsyncGenerator[Any, None]:
        async with aclosing(outputs):
            try:
                async for output in outputs:
                    call.see(output)
                    yield output
            except Exception as error:
                if self._client.errored:
                    raise self.dead_error from error
                raise
            finally:
                call.ended_ns = time.time_ns()


def _within(namespace: str, sampling_params: Any) -> Any:
    """Sampling parameters that restrict blending to the chunks of the namespace and the public ones."""
    if not namespace:
        return sampling_params
    own = copy(sampling_params)  # a request of several prompts passes the same object again
    extra = own.extra_args or {}
    transfer = extra.get("kv_transfer_params") or {}
    own.extra_args = {
        **extra,
        "kv_transfer_params": {**transfer, KEY: {**(transfer.get(KEY) or {}), "namespace": namespace}},
    }
    return own


def with_salt(prompt: Any, namespace: str) -> Any:
    """A copy of a prompt, in any form that vLLM's engine takes, with the namespace in its cache salt.

    Args:
        prompt: text, token ids, a mapping, an engine's own request, or a stream of such prompts.

    Raises:
        TypeError: the prompt has another form; no prompt passes without a salt.
    """
    if isinstance(prompt, dict) and _DECODER not in prompt and (namespace or prompt.get(_SALT)):
        return {**prompt, _SALT: salted(namespace, prompt.get(_SALT))}
    if not namespace:
        return prompt
    if isinstance(prompt, str):
        return {"prompt": prompt, _SALT: salted(namespace, None)}
    if isinstance(prompt, list):
        return {"prompt_token_ids": prompt, _SALT: salted(namespace, None)}
    if isinstance(prompt, dict):
        if isinstance(prompt.get(_DECODER), dict | str | list):
            return {**prompt, _DECODER: with_salt(prompt[_DECODER], namespace)}
        return {**prompt, _SALT: salted(namespace, prompt.get(_SALT))}  # encoder and decoder in one
    if isinstance(prompt, AsyncGeneratorType):
        return _each(prompt, namespace)
    if hasattr(prompt, _SALT):  # vLLM's EngineCoreRequest, which was made for this call
        setattr(prompt, _SALT, salted(namespace, prompt.cache_salt))
        return prompt
    raise TypeError(f"got a prompt of {type(prompt).__name__}, to which no cache salt can be given")


async def _each(stream: AsyncGenerator[Any, None], namespace: str) -> AsyncGenerator[Any, None]:
    async for part in stream:
        yield replace(part, prompt=with_salt(part.prompt, namespace))
