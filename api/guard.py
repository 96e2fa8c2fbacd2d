"""The engine as the HTTP routes see it."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from api.options import check_transfer_params
from blend.errors import EngineNotReady


class GuardedEngine:
    """vLLM's engine client, with what requests say about blending checked on the way in.

    Every route ends in `generate`, also those that take sampling parameters as they are, so this is the one
    place where a client's engine parameters cannot slip by. All else is the client's own.

    Args:
        client: vLLM's `EngineClient`.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    @property
    def dead_error(self) -> EngineNotReady:
        """What routes raise when the engine has died before an answer was begun."""
        return EngineNotReady("the engine has died; restart the server (its log says why)")

    def generate(self, prompt: Any, sampling_params: Any, request_id: str, **kwargs: Any) -> Any:
        """As `EngineClient.generate`; what is wrong with the request is raised at once, not when iterated.

        Raises:
            FieldError: the request carries engine parameters that clients may not set.
        """
        extra = getattr(sampling_params, "extra_args", None) or {}
        check_transfer_params(extra.get("kv_transfer_params"))
        return self._outputs(self._client.generate(prompt, sampling_params, request_id, **kwargs))

    async def _outputs(self, outputs: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
        async with aclosing(outputs):
            try:
                async for output in outputs:
                    yield output
            except Exception as error:
                if self._client.errored:
                    raise self.dead_error from error
                raise
