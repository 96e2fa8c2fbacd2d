"""Two processes run the tests side by side, each with a core of its own: `pytest -n 2 --dist loadgroup`.

Most of the time goes into starting engines, which keeps one core busy. Tests that share a server, or
another thing that takes long to make, stay together in one process; what takes longest begins first.
"""

import os

import pytest
import torch

SERVER = "server"
"""Of all modules that ask the one server of `tests.served`."""
LONGEST = (
    SERVER,
    "tests/blend/vllm/test_families.py",  # needs nothing that the server's process is making meanwhile
    "tests/blend/vllm/test_not_blendable.py",
    "tests/test_readme.py",
    "tests/blend/vllm/test_engine.py",
    "tests/api/test_two_machines.py",
    "tests/api/test_operated_server.py",
    "tests/api/surface/test_surface_served.py",
    "tests/blend/vllm/test_laboratory.py",
    "tests/blend/hf/test_default_method.py",
)
"""Groups that take half a minute or more (see `pytest --durations=50`), in the order they begin in."""
_ROOT_FIXTURES = "tests"
_CORES = sorted(os.sched_getaffinity(0))


def is_one_of_several() -> bool:
    """Whether this process runs some of the tests, and others the rest."""
    return "PYTEST_XDIST_WORKER" in os.environ


def arrange(items: list[pytest.Item]) -> None:
    """Say which tests stay together, and put the longest groups first; within a group nothing moves."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    ranks = {group: rank for rank, group in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(_group(item), len(ranks)))


def take_a_core() -> None:
    """Keep this process, and all that it starts, to one core: engines on the same two wait for each other."""
    os.sched_setaffinity(0, cores()[:1])
    torch.set_num_threads(1)


def cores() -> list[int]:
    """The machine's cores, this process's own first, for what has to be told where to run."""
    own = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % len(_CORES)
    return _CORES[own:] + _CORES[:own]


def _group(item: pytest.Item) -> str:
    made = getattr(item, "_fixtureinfo", None)
    served = made.name2fixturedefs.get("served", ()) if made else ()
    if served and served[-1].baseid == _ROOT_FIXTURES:
        return SERVER
    return item.nodeid.partition("::")[0]
