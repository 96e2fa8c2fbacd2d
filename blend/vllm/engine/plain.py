"""vLLM as it is: the engine that a blending one is compared with."""

from typing import Any

from blend.vllm.engine.answer import Answer, Ask
from blend.vllm.engine.setup import APART, INSIDE, EngineSetup
from blend.vllm.engine.thread import EngineThread

_WHAT_BLENDS = ("kv_transfer_config", "worker_cls")
"""What a blending engine has beyond a plain one, of the arguments of vLLM's `AsyncEngineArgs`."""


class PlainEngine:
    """The same model under the same arguments, without connector, worker and executor of ours. Call `close`.

    Args:
        setup: of the blending engine.

    Raises:
        EngineNotReady: the engine did not start.
    """

    def __init__(self, setup: EngineSetup) -> None:
        self._thread = EngineThread(plain_arguments(setup.arguments))

    async def asubmit(self, ask: Ask) -> Answer:
        """Answer one request by full prefill of what is not in the prefix cache; see `Engine.asubmit`."""
        return await self._thread.arun(self._thread.answer(ask))

    def close(self) -> None:
        """Stop the engine; a second call does nothing."""
        self._thread.close()


def plain_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments of an engine that blends, without what makes it blend.

    >>> plain_arguments({"model": "m", "worker_cls": "w", "kv_transfer_config": {}})
    {'model': 'm'}
    """
    return {
        name: value
        for name, value in arguments.items()
        if name not in _WHAT_BLENDS and value not in (INSIDE, APART)
    }
