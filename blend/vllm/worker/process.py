"""Ends an engine's process when its parent dies, and keeps its extra threads to one core."""

import logging
import os
import signal
import time
from multiprocessing import parent_process
from threading import Thread

import torch

GRACE_S = 10.0
"""Time that vLLM's own shutdown gets before the process is killed: workers may be in the middle of a step."""

logger = logging.getLogger(__name__)


def end_with_parent() -> None:
    """Terminate this process when its parent process dies. Stock vLLM keeps running and holds its memory.

    Does nothing in a process without a parent of `multiprocessing`: an engine that runs in its user's own
    process ends with that process.
    """
    if parent_process() is not None:
        Thread(target=_end_after_parent, name="kvblend-parent", daemon=True).start()


def _end_after_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    logger.error("the parent process (%d) of this engine died: the engine terminates", parent.pid)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)


def keep_to_one_core() -> None:
    """Make every other thread of this process, present or future, run torch's operations on one core.

    OpenMP starts a pool of threads for each thread that runs a parallel operation. GNU's OpenMP then counts
    more threads than cores and stops spinning at barriers, for the model's threads too: with one chunk being
    written in the background, every step takes half as long again, as long as that thread lives.

    Call it on the thread that runs the model, which keeps its number of threads.
    """
    torch.get_num_threads()  # a thread takes its number from the process when it first asks
    # Setting it on any thread sets it for all threads that have not asked yet. vLLM replaces
    # `torch.set_num_threads` by a function that does nothing, to protect the model's number.
    setter = Thread(target=torch._C.set_num_threads, args=(1,), name="kvblend-threads")
    setter.start()
    setter.join()
