"""Fixtures for all tests: tiny random models, and real token ids for them."""

import os
from collections.abc import Callable, Iterator
from typing import Any

# Before transformers is imported: no test asks a hub.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
from hypothesis import settings
from transformers import PreTrainedModel

from blend.models.fingerprint import DTYPE_VARIABLE, DTYPES, has_native_bfloat16
from blend.vllm.version import installed_vllm
from tests.reference.tiny_models import FAMILIES, VOCAB_SIZE, tiny_model
from tests.support.shared_server import precomputed, served, store  # noqa: F401 - fixtures of several packages
from tests.support.storage_servers import stop_all
from tests.support.workers import arrange, is_worker, scheduler, take_cores

# How long one example takes says more about the machine's other work than about the code.
settings.register_profile("kvblend", deadline=None)
settings.load_profile("kvblend")

RandomIds = Callable[[int], tuple[int, ...]]


TEST_DTYPE = "KVBLEND_TEST_DTYPE"
"""Names the dtype of a whole run, servers that tests start included: float32 shows what a machine without
native bfloat16 sees."""


def pytest_configure() -> None:
    torch.set_num_threads(1)  # tensors of tests are tiny: a second thread waits far longer than it computes
    if chosen := os.environ.get(TEST_DTYPE):
        if chosen not in DTYPES:
            raise pytest.UsageError(f"got {TEST_DTYPE}={chosen!r}, expected one of {', '.join(DTYPES)}")
        os.environ[DTYPE_VARIABLE] = chosen
    if is_worker():
        take_cores()


def pytest_report_header() -> list[str]:
    """What the figures of a run depend on, besides the code."""
    cpu = torch.cpu.get_capabilities()
    features = sorted(name for name in cpu if name.startswith(("avx", "amx", "sve", "bf16")) and cpu[name])
    own = "bfloat16" if has_native_bfloat16() else "float32"
    dtype = os.environ.get(DTYPE_VARIABLE) or f"{own}, this CPU's"
    return [
        f"dtype: {dtype}; {installed_vllm()}, torch {torch.__version__}",
        f"CPU: {cpu.get('cpu_name')}, {len(os.sched_getaffinity(0))} cores, {' '.join(features)}",
    ]


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return scheduler(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if is_worker():
        arrange(items)


@pytest.fixture(scope="session", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    """One tiny model of each family; never modified."""
    return tiny_model(request.param)


@pytest.fixture(scope="session")
def llama() -> PreTrainedModel:
    """The plain tiny model, where families make no difference."""
    return tiny_model("llama")


@pytest.fixture
def random_ids() -> RandomIds:
    """Draws token ids; the same ones in every run of a test."""
    generator = torch.Generator().manual_seed(0)
    return lambda num: tuple(torch.randint(VOCAB_SIZE, (num,), generator=generator).tolist())


@pytest.fixture(scope="session", autouse=True)
def servers() -> Iterator[None]:
    """What tests have started is stopped, whatever became of them."""
    try:
        yield
    finally:
        stop_all()
