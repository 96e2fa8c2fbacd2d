"""How the processes of an engine are started, and how its ranks on a CPU wait for each other."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.executor.abstract import Executor
from vllm.v1.executor.multiproc_executor import MultiprocExecutor
from vllm.v1.executor.uniproc_executor import UniProcExecutor

from blend.vllm.vllm_names import OMPProcessManager

POLL_S = 0.001
"""Pause between two checks for a worker's answer: a check takes 0.025 ms, a step at least 10 ms."""


@asynccontextmanager
async def serving_engine(arguments: AsyncEngineArgs) -> AsyncIterator[AsyncLLM]:
    """The engine of an HTTP server, shut down at the end as vLLM's own server does it."""
    llm = start_engine(arguments, UsageContext.OPENAI_API_SERVER)
    try:
        await llm.reset_mm_cache()
        yield llm
    finally:
        llm.shutdown(timeout=llm.vllm_config.shutdown_timeout)


def start_engine(arguments: AsyncEngineArgs, usage: UsageContext = UsageContext.ENGINE_CONTEXT) -> AsyncLLM:
    """Start vLLM's asynchronous engine and return when it can answer. Call it on the engine's event loop."""
    config = arguments.create_engine_config(usage_context=usage)
    with _model_thread_environment(config):
        return AsyncLLM.from_vllm_config(
            vllm_config=config,
            usage_context=usage,
            enable_log_requests=arguments.enable_log_requests,
            aggregate_engine_logging=arguments.aggregate_engine_logging,
            disable_log_stats=arguments.disable_log_stats,
        )


@contextmanager
def _model_thread_environment(config: Any) -> Iterator[None]:
    """Set the OpenMP variables of a CPU worker while the engine's process starts, if that runs the model.

    OpenMP reads them once, when a process loads it. vLLM therefore starts a separate process for the model,
    which imports everything once more; with the variables set here, the engine's own process will do.
    """
    if not issubclass(Executor.get_class(config), UniProcExecutor):
        yield
        return
    with OMPProcessManager(config).configure_omp_envs(rank=0, local_rank=0):
        yield


class NappingExecutor(MultiprocExecutor):
    """vLLM's executor for several ranks, which naps between checks for a worker's answer.

    vLLM's own polls without a pause for a second, then sleeps. On a CPU the core that polls is one of the
    model's, and a blend takes less than that second. Sleeping from the start does not work: a wake-up call
    is lost now and then, which costs five seconds. Named to vLLM by `distributed_executor_backend`.
    """

    def _post_init_executor(self) -> None:
        super()._post_init_executor()
        for queue in self.response_mqs:
            if queue._spin_condition is not None:
                queue._spin_condition.wait = _nap


def _nap(timeout_ms: int | None = None) -> None:
    time.sleep(POLL_S)
