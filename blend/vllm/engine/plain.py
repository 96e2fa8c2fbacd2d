"""Stock vLLM with the same arguments: the engine that a blending one is compared with."""

from typing import Any

from blend.vllm.engine.answer import Answer, Ask
from blend.vllm.engine.setup import IN_PROCESS, IN_PROCESSES, EngineSetup
from blend.vllm.engine.thread import EngineThread

_BLENDING_ARGUMENTS = ("kv_transfer_config", "worker_cls")
"""Arguments of vLLM's `AsyncEngineArgs` that only a blending engine has."""


class PlainEngine:
    """The same model with the same arguments, without kvblend's connector, worker and executor. Call `close`.

    Args:
        setup: of the blending engine.

    Raises:
        EngineNotReady: the engine did not start.
    """

    def __init__(self, setup: EngineSetup) -> None:
        self._thread = EngineThread(plain_arguments(setup.arguments))

    async def asubmit(self, ask: Ask) -> Answer:
        """Answer one request by full prefill of everything outside the prefix cache; see `Engine.asubmit`."""
        return await self._thread.arun(self._thread.answer(ask))

    def close(self) -> None:
        """Stop the engine; a second call does nothing."""
        self._thread.close()


def plain_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a blending engine, without those that make it blend.

    >>> plain_arguments({"model": "m", "worker_cls": "w", "kv_transfer_config": {}})
    {'model': 'm'}
    """
    return {
        name: value
        for name, value in arguments.items()
        if name not in _BLENDING_ARGUMENTS and value not in (IN_PROCESS, IN_PROCESSES)
    }
