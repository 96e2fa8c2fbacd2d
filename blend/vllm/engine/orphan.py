"""An engine whose starter is gone ends; vLLM's own goes on alone, and keeps its gigabytes."""

import logging
import os
import signal
import time
from multiprocessing import parent_process
from threading import Thread

GRACE_S = 10.0
"""For vLLM's own shutdown, which waits for workers that may be amid a step."""

logger = logging.getLogger(__name__)


def end_with_parent() -> None:
    """Have this process end, as vLLM's own shutdown ends it, once the process that started it is gone.

    Does nothing in a process that is no child: an engine in its user's own process ends with that.
    """
    if parent_process() is not None:
        Thread(target=_outlive, name="kvblend-orphan", daemon=True).start()


def _outlive() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    logger.error("the process that started this engine (%d) is gone: the engine ends", parent.pid)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)
