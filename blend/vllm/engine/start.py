"""An engine's start: a process that runs the model itself is started with the model's threads."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.usage.usage_lib import UsageContext
from vllm.utils.ompmultiprocessing import OMPProcessManager
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.executor.abstract import Executor
from vllm.v1.executor.uniproc_executor import UniProcExecutor


@asynccontextmanager
async def serving_engine(arguments: AsyncEngineArgs) -> AsyncIterator[AsyncLLM]:
    """The engine of an HTTP server, stopped at the end, as vLLM's own server has it."""
    llm = start_engine(arguments, UsageContext.OPENAI_API_SERVER)
    try:
        await llm.reset_mm_cache()
        yield llm
    finally:
        llm.shutdown(timeout=llm.vllm_config.shutdown_timeout)


def start_engine(arguments: AsyncEngineArgs, usage: UsageContext = UsageContext.ENGINE_CONTEXT) -> AsyncLLM:
    """Start vLLM's asynchronous engine; returns when it can answer. Called on its event loop."""
    config = arguments.create_engine_config(usage_context=usage)
    with _threads_of_the_model(config):
        return AsyncLLM.from_vllm_config(
            vllm_config=config,
            usage_context=usage,
            enable_log_requests=arguments.enable_log_requests,
            aggregate_engine_logging=arguments.aggregate_engine_logging,
            disable_log_stats=arguments.disable_log_stats,
        )


@contextmanager
def _threads_of_the_model(config: Any) -> Iterator[None]:
    """What vLLM sets for a worker on a CPU, set for the engine's process where that is the worker.

    OpenMP reads it once, when the process loads it: hence vLLM starts a process for the model there, which
    imports everything once more.
    """
    if not issubclass(Executor.get_class(config), UniProcExecutor):
        yield
        return
    with OMPProcessManager(config).configure_omp_envs(rank=0, local_rank=0):
        yield
