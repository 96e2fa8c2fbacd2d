"""A thread whose work can wait gives way to the others of its process, and they keep their priority."""

import os
import sys
from threading import Thread, get_native_id

import pytest

from blend.store.tiers.background import give_way


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priorities of their own")
def test_only_the_thread_that_asks_gives_way() -> None:
    before = os.getpriority(os.PRIO_PROCESS, get_native_id())
    seen: list[int] = []

    def work() -> None:
        give_way()
        seen.append(os.getpriority(os.PRIO_PROCESS, get_native_id()))

    thread = Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [19] and os.getpriority(os.PRIO_PROCESS, get_native_id()) == before < 19
