"""`kvblend store`: what it shows is what is there, and what it removes is what may go."""

import os
import shlex
import tarfile
import time
from pathlib import Path

import pytest

from api.cli.main import main
from api.store_tool import checking
from precompute.config import PrecomputeConfig
from precompute.job import Precompute
from precompute.journal import Journal, store_lock
from retriever.layout import read_manifest
from tests.api.store_tool.conftest import Commands, Shop
from tests.support.doc_blocks import in_group
from tests.support.fake_engine import FakeEngine
from tests.support.word_embedder import WordEmbedder

# Three documents of one chunk, and the prefix, each in two versions.
NUM_CHUNKS = 8


def flip(path: Path, place: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def plain_id(shop: Shop, collection: str) -> str:
    """A chunk that only this collection needs."""
    others = read_manifest(shop.path, "two" if collection == "one" else "one").chunk_ids
    return min(read_manifest(shop.path, collection).chunk_ids - others)


def test_ls_names_every_chunk_and_who_needs_it(shop: Shop, commands: Commands) -> None:
    listed = commands.json("ls")
    assert {one["id"] for one in listed} == set(shop.chunks.ids())
    assert len(listed) == NUM_CHUNKS
    # a in both versions; b and the prefix in both versions; c in both versions
    assert (
        sorted("+".join(one["collections"]) for one in listed) == ["one"] * 2 + ["one+two"] * 4 + ["two"] * 2
    )
    table = commands.ok("ls").splitlines()
    head = "id model tokens behind size codec per token used pin collections"
    assert table[0].split() == head.split()
    assert table[-1].startswith("8 chunks, ")
    assert {line.split()[0] for line in table[1:-1]} == {key[:12] for key in shop.chunks.ids()}
    assert len(commands.json("ls", "--collection", "one")) == 6
    assert "no collection 'three'" in commands.fails("ls", "--collection", "three")


def test_a_namespaces_chunks_are_shown_apart_and_its_collections_keep_them(
    shop: Shop, commands: Commands
) -> None:
    engine = FakeEngine(shop.path, namespace="acme")
    config = PrecomputeConfig(shop.root / "one", shop.path, "mine", chunk_tokens=32, prefix="Be brief.")
    Precompute(engine, WordEmbedder(), config, lambda _: None).run()
    listed = [one for one in commands.json("ls") if one["collections"] == ["mine"]]
    assert len(listed) == 6 and commands.ok("ls").count("fake of acme") == 6
    commands.ok("gc", "--unneeded")
    assert {one["id"] for one in listed} == set(engine.store.ids())
    assert len(set(shop.chunks.ids())) == NUM_CHUNKS


def test_looking_drops_nothing(shop: Shop, commands: Commands) -> None:
    for key in shop.chunks.ids():
        flip(shop.chunks.path(key), 20)  # in the header
    for verb in ("ls", "stats"):
        commands.ok(verb)
    assert len(list(shop.chunks.ids())) == NUM_CHUNKS
    assert commands.json("stats")[0]["unreadable"] == NUM_CHUNKS


def test_show(shop: Shop, commands: Commands) -> None:
    key = plain_id(shop, "one")
    shop.chunks.pin(key)
    (shown,) = commands.json("show", key[:6])
    record = shop.chunks.record(key)
    assert record is not None
    assert (shown["id"], shown["tokens"], shown["behind_tokens"]) == (key, 20, record.offset)
    assert shown["left_out"] == 0, "a short chunk is as far from its prefix as it stands"
    assert shown["pinned"] and shown["collections"] == ["one"]
    assert shown["parts"]["kv"] == "float32 [2, 2, 20, 1, 4]"
    assert shown["file"] == str(shop.chunks.path(key))
    assert f"id             {key}" in commands.ok("show", key[:6])


def test_an_id_may_be_given_by_its_beginning_if_that_is_unique(shop: Shop, commands: Commands) -> None:
    assert "begins 8 ids, expected one" in commands.fails("show", "")
    assert "no chunk 'xyz'" in commands.fails("rm", "xyz")
    keys = sorted(shop.chunks.ids())
    assert [one["id"] for one in commands.json("show", keys[1], keys[0], keys[1][:-1])] == [keys[1], keys[0]]


def test_stats(shop: Shop, commands: Commands) -> None:
    (counted,) = commands.json("stats")
    files = [shop.chunks.path(key).stat().st_size for key in shop.chunks.ids()]
    assert (counted["model"], counted["chunks"], counted["bytes"]) == ("fake", len(files), sum(files))
    assert (counted["unneeded"], counted["unreadable"], counted["budget_bytes"]) == (0, 0, None)
    assert "budget_bytes" in commands.ok("stats")


@pytest.mark.parametrize("place", [-1, 3, 30, 700])
def test_verify_reads_every_byte_and_repair_drops(shop: Shop, commands: Commands, place: int) -> None:
    assert commands.ok("verify") == f"{NUM_CHUNKS} checked, 0 damaged\n"
    key = plain_id(shop, "one")
    flip(shop.chunks.path(key), place)
    status, out, _ = commands.run("verify")
    assert status == checking.EXIT_FAILED
    assert out.startswith(f"{key}: ") and "needed by one" in out and "1 damaged: --repair drops them" in out
    assert key in shop.chunks  # so far
    found = commands.json("verify", "--repair")
    assert [one["id"] for one in found["damaged"]] == [key]
    assert key not in shop.chunks
    assert [record.chunk_id for record in shop.precompute("one").computed] == [key]
    assert commands.ok("verify", key, "--json")


def test_verify_finds_a_chunk_under_another_ones_name(shop: Shop, commands: Commands) -> None:
    one, other = sorted(shop.chunks.ids())[:2]
    shop.chunks.path(one).write_bytes(shop.chunks.path(other).read_bytes())
    status, out, _ = commands.run("verify")
    assert status == checking.EXIT_FAILED and out.startswith(f"{one}: it holds chunk {other}")


def test_rm_refuses_what_a_collection_needs_in_either_version(shop: Shop, commands: Commands) -> None:
    for key in shop.chunks.ids():
        error = commands.fails("rm", key)
        assert f"chunk {key} is needed by " in error and "--force" in error
    key = plain_id(shop, "two")
    shop.chunks.pin(key)
    assert commands.json("rm", key, "--force") == {"removed": [key]}
    assert key not in shop.chunks and not shop.chunks.is_pinned(key)


def test_rm_removes_all_or_none(shop: Shop, commands: Commands) -> None:
    free = unneeded(shop)
    assert "is needed by" in commands.fails("rm", free, plain_id(shop, "two"))
    assert free in shop.chunks
    commands.ok("rm", free)
    assert free not in shop.chunks


def unneeded(shop: Shop) -> str:
    """A chunk that no collection needs any more."""
    engine = shop.precompute("one")
    record = engine.prefixes("Be brief.").versions(engine.encode("nobody needs me")).plain
    engine.compute([record])
    return record.chunk_id


def test_what_an_unfinished_job_may_need_stays(shop: Shop, commands: Commands) -> None:
    free = unneeded(shop)
    Journal(shop.path, "three").write([free])
    assert "is needed by three" in commands.fails("rm", free)
    commands.ok("gc", "--unneeded")
    assert free in shop.chunks
    Journal(shop.path, "three").clear()
    with store_lock(shop.path):
        assert "another job is writing" in commands.fails("gc", "--unneeded")
    assert commands.json("gc", "--unneeded")["removed"] == [free]
    assert len(list(shop.chunks.ids())) == NUM_CHUNKS


def test_nothing_goes_while_it_is_not_known_what_a_collection_needs(shop: Shop, commands: Commands) -> None:
    free = unneeded(shop)
    (shop.path / "collections" / "two" / "manifest.json").write_text("{")
    for arguments in (["rm", free], ["gc", "--unneeded"]):
        assert "collection 'two' is damaged" in commands.fails(*arguments)
    assert free in shop.chunks
    commands.ok("rm", free, "--force")


def test_gc_evicts_what_was_used_longest_ago_and_pins_last(shop: Shop, commands: Commands) -> None:
    keys = sorted(shop.chunks.ids())
    for age, key in enumerate(keys):
        os.utime(shop.chunks.path(key), (time.time() - age,) * 2)
    commands.ok("pin", keys[-1])
    size = sum(shop.chunks.path(key).stat().st_size for key in (keys[0], keys[-1]))
    gone = commands.json("gc", "--max-bytes", str(size))
    assert set(shop.chunks.ids()) == {keys[0], keys[-1]}
    assert (gone["kept"], gone["kept_bytes"], len(gone["removed"])) == (2, size, NUM_CHUNKS - 2)
    assert "removed 0 chunks" in commands.ok("gc") and "no budget" in commands.ok("gc")
    assert commands.json("gc", "--max-bytes", "0")["kept"] == 0


def test_gc_takes_the_configured_budget(
    shop: Shop, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVBLEND_STORE_DISK_BYTES", "3KB")
    assert commands.json("gc")["max_bytes"] == 3000
    assert sum(shop.chunks.path(key).stat().st_size for key in shop.chunks.ids()) <= 3000


def test_pin_and_unpin(shop: Shop, commands: Commands) -> None:
    commands.ok("pin", "--collection", "two")
    assert len(list(shop.chunks.pinned_ids())) == 6
    assert sum(one["pinned"] for one in commands.json("ls")) == 6
    key = plain_id(shop, "two")
    shop.chunks.drop(key)  # evicted: the pin is there yet
    assert commands.json("unpin", key[:8]) == {"unpin": [key]}
    assert len(list(shop.chunks.pinned_ids())) == 5
    assert "expected ids of chunks, or --collection" in commands.fails("pin")


def test_export_and_import_give_the_same_bytes(shop: Shop, commands: Commands, tmp_path: Path) -> None:
    archive, target = tmp_path / "chunks.tar", tmp_path / "other"
    assert commands.json("export", str(archive))["chunks"] == NUM_CHUNKS
    assert commands.json("import", str(archive), store=target)["chunks"] == NUM_CHUNKS
    for key in shop.chunks.ids():
        copy = target / "models" / shop.mark / "chunks" / f"{key}.safetensors"
        assert copy.read_bytes() == shop.chunks.path(key).read_bytes()
    commands.ok("verify", store=target)
    assert commands.json("export", str(archive), "--collection", "one")["chunks"] == 6
    assert "exported 1 chunk, " in commands.ok("export", str(archive), plain_id(shop, "one"))


def test_what_is_damaged_is_neither_exported_nor_imported(
    shop: Shop, commands: Commands, tmp_path: Path
) -> None:
    archive, key = tmp_path / "chunks.tar", plain_id(shop, "one")
    commands.ok("export", str(archive))
    data = bytearray(archive.read_bytes())
    place = data.index(shop.chunks.path(key).read_bytes()) + 1000
    data[place] ^= 1
    archive.write_bytes(data)
    assert f"chunk {key} is damaged" in commands.fails("import", str(archive))
    flip(shop.chunks.path(key))
    archive.unlink()
    assert f"chunk {key} is damaged" in commands.fails("export", str(archive))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "store", "two"]


@pytest.mark.parametrize(
    "name", ["../../escape.safetensors", "models/m/chunks/../a.safetensors", "readme.md"]
)
def test_an_archive_of_something_else_is_refused(
    shop: Shop, commands: Commands, tmp_path: Path, name: str
) -> None:
    archive, file = tmp_path / "other.tar", tmp_path / "file"
    file.write_bytes(b"x" * 100)
    with tarfile.open(archive, "w") as tar:
        tar.add(file, arcname=name)
    assert "expected a file that kvblend store export wrote" in commands.fails("import", str(archive))
    archive.write_bytes(b"no tar at all")
    assert "cannot read" in commands.fails("import", str(archive))


def test_there_is_no_store(shop: Shop, commands: Commands, tmp_path: Path) -> None:
    status, _, err = commands.run("ls", store=tmp_path / "nowhere")
    assert status == 1 and "no store at" in err and "--store" in err
    assert not (tmp_path / "nowhere").exists()


def test_the_settings_file_is_in_force_for_the_store_too(
    shop: Shop, commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVBLEND_CONFIG", "")  # what the flag sets is taken back
    file = tmp_path / "kvblend.yaml"
    file.write_text("store: {disk_bytes: 1}\n")
    before = commands.json("ls")
    assert commands.json("gc", "--config", str(file))["max_bytes"] == 1
    assert len(commands.json("ls")) < len(before)


def test_wrong_usage_is_status_2() -> None:
    for argv in (["store"], ["store", "sing"], ["store", "gc", "--max-bytes", "much"], ["store", "rm"]):
        with pytest.raises(SystemExit) as ended:
            main(argv)
        assert ended.value.code == 2


def test_the_commands_that_the_page_on_the_store_shows(commands: Commands) -> None:
    for block in in_group("stored"):
        for line in block.source.splitlines():
            program, group, *verb = shlex.split(line)
            assert (program, group) == ("kvblend", "store")
            assert commands.ok(*verb), f"{line} printed nothing"
