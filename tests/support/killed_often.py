"""Kills a job at random moments, resumes it each time, with a reader looking on; run by test_killed_often.py.

When the job comes through, its store is compared with one that was never interrupted, and the next one begins
with an empty store, until there were as many kills as asked for. Prints one JSON object.
"""

import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

from tqdm import tqdm

from blend.store.file_format.durable import LEFTOVER_AGE_S
from tests.support.fake_engine import FakeEngine
from tests.support.killed_job import run_job

Files = dict[str, bytes]


def files_of(store: Path) -> Files:
    """Everything that is in a store, but for what dead writers left, which goes when it is old."""
    for path in store.rglob(".*.tmp"):
        os.utime(path, (time.time() - 2 * LEFTOVER_AGE_S,) * 2)
    FakeEngine(store)  # opening clears them away
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def forked(work: Callable[[], None]) -> int:
    """Do something in a process of its own; returns its id."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    return child


def killed(folder: Path, store: Path, after_s: float) -> bool:
    """Run the job and kill it; False when it was done before that."""
    deadline = time.monotonic() + after_s
    child = forked(lambda: run_job(folder, store) and None)
    ended, status = 0, 0
    while not ended and time.monotonic() < deadline:
        time.sleep(0.001)
        ended, status = os.waitpid(child, os.WNOHANG)
    if not ended:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), f"the job failed: status {status}"
    return status == signal.SIGKILL


def watch(root: Path, expected: Files) -> None:
    """Read whatever chunk is found in the stores, for ever: each is what it will be in the end."""
    while True:
        for path in root.glob("*/models/*/chunks/*.safetensors"):
            name = str(path.relative_to(root)).partition("/")[2]
            assert path.read_bytes() == expected[name], f"a reader saw a part of {name}"
            with open(root / "reads", "ab") as file:
                file.write(b".")
            time.sleep(0.001)


def main(folder: Path, root: Path, kills: int) -> None:
    """Kill a job over `folder` so often, over stores in `root`."""
    for name in ("warm-up", "uninterrupted"):  # the first one imports a second's worth of libraries
        start = time.monotonic()
        run_job(folder, root / name)
    whole_s = time.monotonic() - start
    expected = files_of(root / "uninterrupted")
    stores = root / "stores"
    stores.mkdir()
    reader = forked(lambda: watch(stores, expected))
    draw, done, resumed, unequal = random.Random(0), 0, [], []
    for number in count():
        store, before = stores / str(number), done
        while killed(folder, store, draw.uniform(0, whole_s)):
            done += 1
        resumed.append(done - before)
        found = files_of(store)
        unequal += [name for name in found | expected if found.get(name) != expected.get(name)]
        if done >= kills:
            break
    reader_ended, _ = os.waitpid(reader, os.WNOHANG)
    if not reader_ended:
        os.kill(reader, signal.SIGKILL)
        os.waitpid(reader, 0)
    reads = (stores / "reads").stat().st_size
    report = {"kills": done, "resumed": resumed, "unequal": unequal, "reads": reads, "files": len(expected)}
    print(json.dumps({**report, "reader_complained": bool(reader_ended)}))


if __name__ == "__main__":
    os.fsync = lambda _: None  # slow, and what a process has written outlives it without
    # The word index draws its bars, none to be seen, under a lock that forked processes share: one that
    # is killed while it has it would stop all the others.
    tqdm.set_lock(threading.RLock())
    tqdm.monitor_interval = 0
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
