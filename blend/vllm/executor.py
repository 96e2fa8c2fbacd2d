"""vLLM's executor for CPUs, waiting in its sleep. Named to vLLM by `distributed_executor_backend`."""

from vllm.v1.executor.multiproc_executor import MultiprocExecutor


class QuietExecutor(MultiprocExecutor):
    """Sleeps until a worker answers, where vLLM's own polls for a second first.

    A GPU computes beside a process that polls. On a CPU the cores that it polls on are the model's, and a
    blend is done within that second.
    """

    def _post_init_executor(self) -> None:
        super()._post_init_executor()
        for queue in self.response_mqs:
            if queue._spin_condition is not None:
                queue._spin_condition.busy_loop_s = 0
