"""Engines do not outlive the process that started them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[4]
STARTER = """
import multiprocessing, time
from blend.vllm.worker.process import end_with_parent

def child():
    end_with_parent()
    print(multiprocessing.current_process().pid, flush=True)
    time.sleep(600)

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=child)
    process.start()
    process.join()
"""


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Nobody may have collected it yet.
    return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def test_a_child_ends_soon_after_its_parent_was_killed(tmp_path: Path) -> None:
    script = tmp_path / "starter.py"
    script.write_text(STARTER)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, env=environment) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        try:
            assert _is_there(pid)
            starter.send_signal(signal.SIGKILL)
            deadline = time.monotonic() + 60
            while _is_there(pid) and time.monotonic() < deadline:
                time.sleep(0.1)
            assert not _is_there(pid)
        finally:
            if _is_there(pid):
                os.kill(pid, signal.SIGKILL)
