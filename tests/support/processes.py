"""Processes that tests start: waiting until a process answers, ending it and its children."""

import subprocess
import time
from collections.abc import Callable

import httpx
import psutil
import redis

START_S = 60
"""Bounds a wait; what is waited for takes a second on an idle machine."""


def wait_for(works: Callable[[], object], process: "subprocess.Popen[bytes] | None" = None) -> None:
    """Return once `works` neither raises nor returns something false; fail when the process ends before."""
    deadline = time.monotonic() + START_S
    while True:
        assert process is None or process.poll() is None, f"it ended with status {process.returncode}"
        try:
            if works():
                return
        except (OSError, redis.RedisError, httpx.TransportError):
            pass
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def kill(process: "subprocess.Popen[bytes]") -> None:
    """End a process and its children at once, where how they end is not what is tested."""
    if process.poll() is None:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for member in family:
            try:
                member.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(family[1:], timeout=10)
    process.wait()
