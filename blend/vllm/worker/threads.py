"""Threads of a worker beside the one that runs the model: each computes on one core."""

from threading import Thread

import torch


def keep_to_one_core() -> None:
    """Have every other thread of this process, those to come included, run torch's operations by itself.

    A second thread that runs one in parallel has threads of its own started for it by OpenMP, and GNU's then
    finds more of them than cores and no longer lets any spin at a barrier, those of the model neither: with
    one chunk written beside it, every step takes half as long again, for as long as that thread lives.

    Called on the thread that runs the model, which keeps its number.
    """
    torch.get_num_threads()  # a thread takes its number from the process when it first asks
    # What is set on any thread is what the process gives to threads that have not asked yet. vLLM puts a
    # function that does nothing in place of `torch.set_num_threads`, to keep the model's threads.
    setting = Thread(target=torch._C.set_num_threads, args=(1,), name="kvblend-threads")
    setting.start()
    setting.join()
