"""The disk tier's byte budget: never exceeded, spent on what is used, shared by processes."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blend.chunks.chunk import ChunkKV
from blend.errors import StoreFull
from blend.store.file_format.chunk_file import encode
from blend.store.tiers import disk
from blend.store.tiers.disk import DiskStore
from blend.store.tiers.ledger import SUFFIX
from tests.reference.lru import lru_hits

MakeChunk = Callable[..., ChunkKV]
ROOT = Path(__file__).parents[4]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Syncing makes no difference to what is evicted, and most of the time."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def size_of(chunk: ChunkKV) -> int:
    return len(b"".join(encode(chunk)))


def bytes_in(root: Path) -> int:
    return sum(path.stat().st_size for path in root.iterdir())


def use(store: DiskStore, chunk: ChunkKV) -> bool:
    """What a reader of a cache does; whether the chunk was there."""
    found = store.get(chunk.record) is not None
    if not found:
        store.put(chunk)
    return found


def random_uses(num: int, chunks: int) -> Iterator[int]:
    """A few are used often, most of them seldom."""
    draw = random.Random(0)
    return (int(chunks * draw.random() ** 3) for _ in range(num))


@pytest.mark.parametrize(
    "chunks", [400, pytest.param(10_000, marks=[pytest.mark.exhaustive, pytest.mark.timeout(1800)])]
)
def test_random_use_under_a_budget_of_a_quarter_hits_as_often_as_exact_lru(
    tmp_path: Path, make_chunk: MakeChunk, chunks: int
) -> None:
    size = size_of(make_chunk(0))
    budget = chunks // 4 * size
    store = DiskStore(tmp_path, budget)
    uses = list(random_uses(2 * chunks, chunks))
    hits = []
    for i, number in enumerate(uses):
        hits.append(use(store, make_chunk(number)))
        if i % (chunks // 100) == 0:
            assert bytes_in(tmp_path) <= budget
    expected = lru_hits(uses, chunks // 4)
    assert 0.2 < sum(expected) / len(uses) < 0.9  # neither all nor none, or the next line says nothing
    assert abs(sum(hits) - sum(expected)) <= 0.02 * len(uses)
    assert bytes_in(tmp_path) <= budget


def test_two_processes_share_one_budget_and_see_each_others_uses(
    tmp_path: Path, make_chunk: MakeChunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "TOUCH_S", 0.0)
    chunks, capacity = 200, 50
    budget = capacity * size_of(make_chunk(0))
    stores = [DiskStore(tmp_path, budget) for _ in range(2)]
    uses, draw = list(random_uses(600, chunks)), random.Random(1)
    hits = []
    for number in uses:
        hits.append(use(draw.choice(stores), make_chunk(number)))
        assert bytes_in(tmp_path) <= budget
    expected = lru_hits(uses, capacity)
    assert abs(sum(hits) - sum(expected)) <= 0.02 * len(
        uses
    )  # file times have a grain: ties are broken at will


def test_pinned_chunks_go_last_and_keep_their_pins(tmp_path: Path, make_chunk: MakeChunk) -> None:
    chunks = [make_chunk(seed) for seed in range(4)]
    a, b, c, d = (chunk.record.chunk_id for chunk in chunks)
    store = DiskStore(tmp_path, 2 * size_of(chunks[0]))
    other = DiskStore(tmp_path)  # has no budget, and pins for the one that has
    other.pin(a)
    other.pin(c)
    for chunk in chunks[:3]:
        store.put(chunk)
    assert {*store.ids()} == {a, c}
    store.put(chunks[3])  # only pinned ones are there: the oldest of them goes
    assert {*store.ids()} == {c, d}
    assert store.is_pinned(a)
    assert store.evicted == 2
    store.put(chunks[1])
    assert {*store.ids()} == {c, b}
    assert {*other.pinned_ids()} == {a, c}


def test_a_chunk_over_the_budget_is_refused_and_evicts_nothing(tmp_path: Path, make_chunk: MakeChunk) -> None:
    small, large = make_chunk(1), make_chunk(2, tokens=500)
    store = DiskStore(tmp_path, size_of(small))
    store.put(small)
    with pytest.raises(StoreFull, match="over the budget of .* bytes; raise disk_bytes"):
        store.put(large)
    assert list(store.ids()) == [small.record.chunk_id]


def test_putting_what_is_there_evicts_nothing(tmp_path: Path, make_chunk: MakeChunk) -> None:
    chunks = [make_chunk(seed) for seed in range(3)]
    store = DiskStore(tmp_path, 3 * size_of(chunks[0]))
    for chunk in (*chunks, *chunks):
        store.put(chunk)
    assert len(list(store.ids())) == 3
    assert store.evicted == 0


def test_last_uses_outlive_the_process(tmp_path: Path, make_chunk: MakeChunk) -> None:
    chunks = [make_chunk(seed) for seed in range(3)]
    first = DiskStore(tmp_path)
    for age, chunk in zip((30, 20, 10), chunks, strict=True):
        first.put(chunk)
        os.utime(first.path(chunk.record.chunk_id), (time.time() - age,) * 2)
    first.get(chunks[0].record)
    evicted = DiskStore(tmp_path).shrink(size_of(chunks[0]))
    assert evicted == [chunks[1].record.chunk_id, chunks[2].record.chunk_id]


def test_a_chunk_used_often_is_written_down_seldom(
    tmp_path: Path, make_chunk: MakeChunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    monkeypatch.setattr(os, "utime", lambda path: written.append(path))
    store, chunk = DiskStore(tmp_path), make_chunk(1)
    store.put(chunk)
    for _ in range(100):
        store.get(chunk.record)
    assert len(written) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=25),
    pinned=st.sets(st.integers(0, 24)),
    budget=st.integers(1500, 6000),
)
def test_whatever_the_sizes_the_budget_holds_and_the_newest_is_there(
    tmp_path_factory: pytest.TempPathFactory,
    make_chunk: MakeChunk,
    sizes: list[int],
    pinned: set[int],
    budget: int,
) -> None:
    root = tmp_path_factory.mktemp("store")
    store = DiskStore(root, budget)
    for seed, tokens in enumerate(sizes):
        chunk = make_chunk(seed, tokens=tokens)
        if seed in pinned:
            store.pin(chunk.record.chunk_id)
        before = set(store.ids())
        try:
            store.put(chunk)
        except StoreFull:
            assert size_of(chunk) > budget and set(store.ids()) == before
        else:
            assert chunk.record.chunk_id in store
        assert bytes_in(root) <= budget


WRITERS = """
import os, random, sys
from pathlib import Path
from blend.store.tiers.disk import DiskStore
from tests.blend.store.conftest import make

root, budget, writers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
os.fsync = lambda _: None
for seed in range(writers):
    if os.fork() == 0:
        break
else:
    sys.exit(max(os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(writers)))
store, draw = DiskStore(root, budget), random.Random(seed)
for _ in range(300):
    chunk = make(draw.randrange(40))
    got = store.get(chunk.record)
    assert got is None or got.keys.equal(chunk.keys)
    if got is None:
        store.put(chunk)
assert store.corrupt_found == 0
os._exit(0)
"""


def test_processes_at_once_do_each_other_no_harm(tmp_path: Path, make_chunk: MakeChunk) -> None:
    size, writers = size_of(make_chunk(0)), 3
    budget = 10 * size
    command = [sys.executable, "-c", WRITERS, str(tmp_path), str(budget), str(writers)]
    running = subprocess.Popen(command, cwd=ROOT)
    most = 0
    while running.poll() is None:
        most = max(most, sum(size for name in os.listdir(tmp_path) if name.endswith(SUFFIX)))
        time.sleep(0.001)
    assert running.returncode == 0
    assert 5 * size < most <= budget + writers * size
    assert not list(tmp_path.glob(".*"))
