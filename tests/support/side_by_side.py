"""Two processes run the tests side by side, each with a core of its own: `-n 2 --no-loadscope-reorder`.

A module's tests stay together in one process, and so do those of all modules that ask the one server of
`tests.support.served`: what they share is made once. Groups that take longest begin first.
"""

import os
from typing import Any

import pytest
import torch

SERVER = "server"
SERVER_MODULES = (
    "tests/api/server/file_search/test_file_search_server.py",
    "tests/api/server/test_ingest_server.py",
    "tests/api/server/test_page.py",
    "tests/api/server/test_app.py",
    "tests/demo/test_clients.py",
)
"""Those whose `served` is the one of `tests.support.served`."""
LONGEST = (
    SERVER,
    "tests/blend/vllm/engine/test_families.py",  # needs nothing that the server's process is making meanwhile
    "tests/blend/vllm/engine/test_not_blendable.py",
    "tests/test_readme.py",
    "tests/blend/vllm/engine/test_engine.py",
    "tests/api/server/test_two_machines.py",
    "tests/api/server/test_operated_server.py",
    "tests/api/server/surface/test_surface_served.py",
    "tests/bench/fidelity/test_engine_backend.py",
    "tests/blend/hf/test_default_method.py",
)
"""Groups that take half a minute or more (see `pytest --durations=50`), in the order they begin in."""
_CORES = sorted(os.sched_getaffinity(0))


def is_one_of_several() -> bool:
    """Whether this process runs some of the tests, and others the rest."""
    return "PYTEST_XDIST_WORKER" in os.environ


def group_of(nodeid: str) -> str:
    """Which tests stay together with a test."""
    module = nodeid.partition("::")[0]
    return SERVER if module in SERVER_MODULES else module


def scheduler(config: pytest.Config, log: Any) -> Any:
    """Hands out groups, one after the other, to whoever is free."""
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


def take_a_core() -> None:
    """Keep this process, and all that it starts, to one core: engines on the same two wait for each other."""
    os.sched_setaffinity(0, cores()[:1])
    torch.set_num_threads(1)


def cores() -> list[int]:
    """The machine's cores, this process's own first, for what has to be told where to run."""
    own = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % len(_CORES)
    return _CORES[own:] + _CORES[:own]
