"""A thread that lowers its priority leaves the priority of all others as it was."""

import os
import sys
from threading import Thread, get_native_id

import pytest

from blend.store.remote.exchange import lower_thread_priority


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priorities of their own")
def test_only_the_calling_thread_runs_at_a_lower_priority() -> None:
    before = os.getpriority(os.PRIO_PROCESS, get_native_id())
    seen: list[int] = []

    def work() -> None:
        lower_thread_priority()
        seen.append(os.getpriority(os.PRIO_PROCESS, get_native_id()))

    thread = Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [19] and os.getpriority(os.PRIO_PROCESS, get_native_id()) == before < 19
