"""Several processes run the tests, each on its own share of the cores: `-n 2 --no-loadscope-reorder`.

All tests of a module run in one process, and so do all modules that use the shared server of
`tests.support.shared_server`: each fixture is made once. The longest groups start first.
"""

import os
from typing import Any

import pytest

SERVER = "server"
SERVER_MODULES = (
    "tests/api/server/file_search/test_file_search_server.py",
    "tests/api/server/ingest/test_ingest_server.py",
    "tests/api/server/test_page.py",
    "tests/api/server/test_app.py",
    "tests/demo/test_clients.py",
)
"""Modules whose `served` fixture is that of `tests.support.shared_server`."""
LONGEST = (
    SERVER,
    "tests/blend/vllm/engine/test_families.py",  # needs no fixture that the server's process makes meanwhile
    "tests/blend/vllm/engine/test_not_blendable.py",
    "tests/test_readme.py",
    "tests/blend/vllm/engine/test_engine.py",
    "tests/api/server/test_two_machines.py",
    "tests/api/server/test_operated_server.py",
    "tests/api/server/surface/test_surface_served.py",
    "tests/bench/fidelity/test_engine_backend.py",
    "tests/bench/fidelity/test_default_method.py",
)
"""Groups of half a minute or more (see `pytest --durations=50`), in the order in which they start."""
_CORES = sorted(os.sched_getaffinity(0))


def is_worker() -> bool:
    """Whether this process is one of several that share the tests."""
    return "PYTEST_XDIST_WORKER" in os.environ


def group_of(nodeid: str) -> str:
    """Which tests stay together with a test."""
    module = nodeid.partition("::")[0]
    return SERVER if module in SERVER_MODULES else module


def scheduler(config: pytest.Config, log: Any) -> Any:
    """Gives each group of tests to the next idle process."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Groups(config, log)


def arrange(items: list[pytest.Item]) -> None:
    """Put the longest groups first; within a group nothing moves."""
    ranks = {group: rank for rank, group in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(group_of(item.nodeid), len(ranks)))
    for item in items:
        made = getattr(item, "_fixtureinfo", None)
        served = made.name2fixturedefs.get("served", ()) if made else ()
        assert not served or (served[-1].baseid == "tests") == (group_of(item.nodeid) == SERVER), item.nodeid


def take_cores() -> None:
    """Bind this process and its children to a share of the cores: engines on one core wait for each other."""
    os.sched_setaffinity(0, cores()[: _share()])


def cores() -> list[int]:
    """The machine's cores, this process's share first: for engines that are told which cores to use."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = number * _share() % len(_CORES)
    return _CORES[first:] + _CORES[:first]


def _share() -> int:
    return max(1, len(_CORES) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
