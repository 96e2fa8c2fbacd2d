"""A thread beside the model's computes alone, and OpenMP starts nothing for it."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, threading, time
import torch
from blend.vllm.worker.process import keep_to_one_core

torch.set_num_threads(3)
a_lot = torch.ones(1 << 20)
a_lot + a_lot
torch.set_num_threads = lambda num: None  # as vLLM's worker has it
if {kept}:
    keep_to_one_core()
counted = []

def left():
    time.sleep(0.01)
    return len(os.listdir("/proc/self/task"))

# A thread that was joined is listed for a moment more.
before = min(left() for _ in range(50))

def beside():
    a_lot + a_lot
    counted.append((torch.get_num_threads(), len(os.listdir("/proc/self/task"))))

thread = threading.Thread(target=beside)
thread.start()
thread.join()
(num, after), = counted
print(torch.get_num_threads(), num, after - before)
"""


def counts(kept: bool) -> str:
    """Threads of the model, threads of another one, and what the other one's operation has started."""
    command = [sys.executable, "-c", SCRIPT.format(kept=kept)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[4], check=True)
    return done.stdout.strip()


@pytest.mark.slow  # two processes that import torch
def test_another_thread_computes_alone_and_the_models_keeps_its_number() -> None:
    assert counts(kept=False) == "3 3 3", "itself and two that OpenMP has started for it"
    assert counts(kept=True) == "3 1 1"
