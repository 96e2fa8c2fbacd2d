"""vLLM's executor for several ranks on CPUs, napping while it waits; see `distributed_executor_backend`."""

import time

from vllm.v1.executor.multiproc_executor import MultiprocExecutor

NAP_S = 0.001
"""Between two looks at whether a worker has answered: a look takes 0.025 ms, a step at least 10."""


class NappingExecutor(MultiprocExecutor):
    """Naps until a worker answers, where vLLM's own looks without a pause for a second, then sleeps.

    A GPU computes beside a process that polls. On a CPU the cores that it polls on are the model's, and a
    blend is done within that second. Sleeping from the start will not do: a wake-up call that is lost, as
    happens, costs five seconds.
    """

    def _post_init_executor(self) -> None:
        super()._post_init_executor()
        for queue in self.response_mqs:
            if queue._spin_condition is not None:
                queue._spin_condition.wait = _nap


def _nap(timeout_ms: int | None = None) -> None:
    time.sleep(NAP_S)
