"""Threads whose work can wait: they run when nobody else wants their core."""

import os
import sys
from contextlib import suppress
from threading import get_native_id

_LEAST = 19


def give_way() -> None:
    """Have this thread give way to all others of its machine, where the system knows priorities of threads.

    A chunk that is written or sent while a blend computes would take the model's own cores: on a CPU an
    engine's threads share the first of them.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, get_native_id(), _LEAST)
