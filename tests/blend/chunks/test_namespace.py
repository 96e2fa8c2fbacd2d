"""Namespaces: nobody else's chunks are read, timed, or crowded out."""

from pathlib import Path

import pytest
import torch

from blend.chunks.chunk import ChunkKV, ChunkRecord, make_record
from blend.chunks.namespace import check_namespace, salted, scoped
from blend.errors import RequestError
from blend.report.metrics import Meter
from blend.store.base import ChunkStore
from blend.store.config import StoreConfig
from blend.store.tiers.place import MEMORY
from blend.store.tiers.shared_reads import SharedReads
from blend.vllm.scheduler.known_chunks import KnownByNamespace
from blend.vllm.settings import Settings

MODEL, PREFIX = "f" * 64, (1, 2, 3)
ACME, OTHER = "acme", "other"
TOKENS = 20
CHUNK_BYTES = 2 * 2 * TOKENS * 4 * 4


def settings(folder: Path, **more: int) -> Settings:
    return Settings(StoreConfig(path=folder, **more), MODEL, engine="cpu", gate_key="its own")


def put(settings: Settings, namespace: str, first: int) -> ChunkRecord:
    """Store a chunk of a namespace, with numbers of its own."""
    ids = range(first, first + TOKENS)
    record = make_record(settings.within(namespace).fingerprint, PREFIX, ids)
    rows = torch.full((2, TOKENS, 1, 4), float(first) + len(namespace))
    settings.within(namespace).open_store(Meter()).put(ChunkKV(record, rows, rows))
    return record


def known_in(settings: Settings) -> KnownByNamespace:
    return KnownByNamespace(lambda name: settings.within(name).open_list(Meter()))


@pytest.mark.parametrize("name", ["../x", "a b", "-a", "a" * 101, "é", "a/b", "\0"])
def test_a_name_that_could_be_mistaken_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match="got the namespace"):
        check_namespace(name)


def test_no_salt_of_one_namespace_is_another_ones() -> None:
    salts = [None, "", "s", "namespace acme", "namespace acme, salt s", "salt namespace acme"]
    of_acme = {salted(ACME, salt) for salt in salts}
    assert len(of_acme) == len(salts)
    for other in ("", OTHER, "acm"):
        assert not of_acme & {salted(other, salt) for salt in salts}


def test_the_same_text_is_another_chunk_in_each_namespace(tmp_path: Path) -> None:
    here = settings(tmp_path)
    records = [put(here, name, 10) for name in ("", ACME, OTHER)]
    assert len({record.chunk_id for record in records}) == 3
    folders = {here.within(name).chunks_folder for name in ("", ACME, OTHER)}
    assert [len(list(folder.glob("*.safetensors"))) for folder in folders] == [1, 1, 1]


def test_a_request_finds_its_namespaces_chunks_and_everybodys_and_no_others(tmp_path: Path) -> None:
    here = settings(tmp_path)
    common, own, foreign = put(here, "", 10), put(here, ACME, 100), put(here, OTHER, 200)
    known = known_in(here)
    prompt = [*PREFIX, *foreign.token_ids, *own.token_ids, *common.token_ids]
    at_own, at_common = len(PREFIX) + TOKENS, len(PREFIX) + 2 * TOKENS
    assert known.of("").find(prompt) == [(at_common, common)]
    assert known.of(ACME).find(prompt) == [(at_own, own), (at_common, common)]
    assert known.of(OTHER).find(prompt) == [(len(PREFIX), foreign), (at_common, common)]
    assert known.of("nobody").find(prompt) == [(at_common, common)]


def test_of_one_text_a_request_takes_its_own_version(tmp_path: Path) -> None:
    here = settings(tmp_path)
    common, own = put(here, "", 10), put(here, ACME, 10)
    known, prompt = known_in(here), [*PREFIX, *common.token_ids]
    assert known.of(ACME).find(prompt) == [(len(PREFIX), own)]
    here.within(ACME).open_store(Meter()).delete(own.chunk_id)
    assert known.of(ACME).find(prompt) == [(len(PREFIX), common)]
    assert known.of("").find(prompt) == [(len(PREFIX), common)]


def test_what_is_stored_later_is_found_in_its_namespace(tmp_path: Path) -> None:
    here = settings(tmp_path)
    known = known_in(here)
    assert known.of(ACME).find([*PREFIX, *range(10, 10 + TOKENS)]) == []
    record, common = put(here, ACME, 10), put(here, "", 50)
    prompt = [*PREFIX, *record.token_ids, *common.token_ids]
    assert [found for _, found in known.of(ACME).find(prompt)] == [record, common]
    assert [found for _, found in known.of(OTHER).find(prompt)] == [common]


def test_reads_go_to_the_store_that_the_key_belongs_to(tmp_path: Path) -> None:
    here = settings(tmp_path)
    common, own, foreign = put(here, "", 10), put(here, ACME, 10), put(here, OTHER, 10)
    stores: dict[str, ChunkStore] = {name: here.within(name).open_store(Meter()) for name in ("", ACME)}
    reads = SharedReads(stores[ACME], stores[""], here.within(ACME).fingerprint)
    assert reads.get(own).keys[0, 0, 0, 0] == 10 + len(ACME)  # type: ignore[union-attr]
    assert reads.get(common).keys[0, 0, 0, 0] == 10  # type: ignore[union-attr]
    assert reads.get(foreign) is None


@pytest.mark.parametrize("memory_bytes", [0, 2 * CHUNK_BYTES])
def test_a_flood_of_one_namespace_evicts_nothing_of_another(tmp_path: Path, memory_bytes: int) -> None:
    probe = put(settings(tmp_path / "probe"), "", 0)
    file_bytes = next((tmp_path / "probe").rglob(f"{probe.chunk_id}.safetensors")).stat().st_size
    here = settings(
        tmp_path / "store",
        disk_bytes=3 * file_bytes,
        memory_bytes=memory_bytes,
        namespace_memory_bytes=memory_bytes,
    )
    mine = [put(here, ACME, first) for first in (0, 100)]
    everybodys = put(here, "", 0)
    store, meter = here.within(ACME).open_store(Meter()), Meter()
    store.pin(mine[0].chunk_id)
    flooding = here.within(OTHER).open_store(meter)
    for first in range(0, 4000, 100):
        record = put(here, OTHER, first)
        assert flooding.get(record) is not None
    assert len(list(flooding.ids())) <= 3
    assert all(store.get(record) is not None for record in mine)
    assert here.open_store(Meter()).get(everybodys) is not None


def test_the_memory_of_all_namespaces_is_one_figure(tmp_path: Path) -> None:
    here = settings(tmp_path, namespace_memory_bytes=CHUNK_BYTES)
    meter = Meter("rank 0")
    for name, num in (("", 2), (ACME, 3)):
        store = here.within(name).open_store(meter)
        for first in range(0, 100 * num, 100):
            assert store.get(put(here, name, first)) is not None
    levels = meter.take().levels
    assert levels[("kvblend_store_held_bytes", ("memory", "rank 0"))] == 3 * CHUNK_BYTES  # two, and one


def test_a_device_holds_everybodys_chunks_alone(tmp_path: Path) -> None:
    here, meter = settings(tmp_path, device_bytes=10 * CHUNK_BYTES), Meter("rank 0")
    for name in ("", ACME, OTHER):
        store = here.within(name).open_store(meter, MEMORY)
        assert store.get(put(here, name, 10)) is not None
    assert meter.take().levels[("kvblend_store_held_bytes", ("device", "rank 0"))] == CHUNK_BYTES


def test_chunk_ids_of_no_namespace_are_the_models(tmp_path: Path) -> None:
    assert scoped(MODEL, "") == MODEL and settings(tmp_path).within("") == settings(tmp_path)
