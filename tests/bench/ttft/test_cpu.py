"""What is seen of other processes is true: their CPU time, their busy threads and these threads' cores."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from bench.ttft.cpu import (
    Threads,
    ThreadWatch,
    check_binding,
    children,
    cpu_ms,
    disturbance,
    parent_of,
    wait_until_quiet,
)
from blend.errors import RequestError

CORES = sorted(os.sched_getaffinity(0))
BURN = """
import hashlib, os, sys, threading
def burn(core):
    os.sched_setaffinity(0, {core})
    while True:
        hashlib.sha256(bytes(1 << 20)).digest()  # lets other threads run
threading.Thread(target=lambda: threading.Event().wait(), daemon=True).start()  # an idle one
for core in map(int, sys.argv[1:]):
    threading.Thread(target=burn, args=(core,), daemon=True).start()
print("ready", flush=True)
threading.Event().wait()
"""


@contextmanager
def burning(*cores: int) -> Iterator[int]:
    """A process with a busy thread on each of these cores."""
    command = [sys.executable, "-c", BURN, *map(str, cores)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            yield process.pid
        finally:
            process.kill()


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120  # a busy machine leaves a thread out for long
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.skipif(len(CORES) < 2, reason="needs two cores")
@pytest.mark.parametrize("cores", [CORES[:1], CORES[1:2], CORES[:2]], ids=["first", "second", "both"])
def test_busy_threads_are_seen_on_their_cores(cores: list[int]) -> None:
    with burning(*cores) as pid:
        watch = ThreadWatch([pid])
        until(lambda: watch.seen() == Threads(len(cores), tuple(cores)))


def test_a_process_that_waits_has_no_busy_threads() -> None:
    with burning() as pid:
        watch, before = ThreadWatch([pid]), cpu_ms([pid])
        time.sleep(0.3)
        assert watch.seen() is None
        assert cpu_ms([pid]) - before < 50


def test_cpu_time_of_another_process_grows_with_what_it_computes() -> None:
    with burning(CORES[0]) as pid:
        before, own = cpu_ms([pid]), time.process_time()
        until(lambda: cpu_ms([pid]) - before > 200)
        assert time.process_time() - own < 10
    assert cpu_ms([pid]) == 0.0


def test_cpu_time_of_this_process_is_what_it_says_itself() -> None:
    assert cpu_ms([os.getpid()]) == pytest.approx(time.process_time() * 1e3, rel=0.05, abs=50)


def test_processes_are_waited_for_until_they_are_quiet() -> None:
    with burning() as idle, burning(CORES[0]) as busy:
        assert wait_until_quiet([idle])
        # A busy machine may leave the thread out for a while, and then it is quiet indeed.
        until(lambda: not wait_until_quiet([idle, busy], most_s=0.3))
        os.kill(busy, 9)
        assert wait_until_quiet([idle, busy])


def test_children_are_found_with_the_one_above_them() -> None:
    before = children()
    command = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}])"
    with subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            new = children() - before
            assert len(new) == 2 and parent_of(new) == process.pid
        finally:
            for pid in children() - before:
                os.kill(pid, 9)


def test_the_same_threads_on_the_same_cores_may_be_compared() -> None:
    assert check_binding({"plain": Threads(2, (0, 1)), "blend": Threads(2, (0, 1))}) == Threads(2, (0, 1))


@pytest.mark.parametrize("other", [Threads(1, (0,)), Threads(2, (0,)), Threads(2, (2, 3))])
def test_others_are_refused_and_both_are_named(other: Threads) -> None:
    with pytest.raises(
        RequestError, match=r"plain: 2 threads on cores 0,1; blend: \d threads.*OMP_THREADS_BIND"
    ):
        check_binding({"plain": Threads(2, (0, 1)), "blend": other})


def test_threads_that_were_not_seen_are_not_taken_for_the_same() -> None:
    with pytest.raises(RequestError, match="plain: not seen; blend: not seen"):
        check_binding({"plain": None, "blend": None})
    with pytest.raises(RequestError, match="plain: 1 threads on cores 0; blend: not seen"):
        check_binding({"plain": Threads(1, (0,)), "blend": None})


def test_an_engine_that_does_not_wait_is_named() -> None:
    assert disturbance({"plain": 0.019, "blend": 0.0}) is None
    assert "plain used 50 %" in (disturbance({"plain": 0.5, "blend": 0.0}) or "")
