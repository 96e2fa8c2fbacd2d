"""The job: what it computes, reuses and drops, and what stops it."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from blend.chunks.versions import LONG_TOKENS, ids_of
from blend.errors import StoreFull
from blend.text.lead import lead_ids
from precompute.config import DEFAULTS
from precompute.errors import PrecomputeError
from precompute.events import Computed, Embedded, FileUnreadable, Notice, Planned
from precompute.journal import store_lock
from retriever.collection import Collection
from retriever.errors import CollectionError, UnknownCollection
from tests.precompute.conftest import Jobs


def stored(jobs: Jobs) -> set[str]:
    return set(jobs.engine.store.ids())


def named(jobs: Jobs, *collections: str) -> set[str]:
    """Keys of all that collections need: both versions of each chunk, prefixes, prefixes with the lead."""
    keys: set[str] = set()
    for name in collections or ("docs",):
        collection = Collection.open(jobs.store, name)
        prefixes = jobs.engine.prefixes(collection.settings.prefix)
        chunks = [jobs.engine.encode(chunk.text) for chunk in collection.chunks]
        records = [*prefixes.heads(map(len, chunks))]
        for ids in chunks:
            records += prefixes.versions(ids).records
        assert collection.manifest.chunk_ids <= ids_of(records)
        keys |= ids_of(records)
    return keys


def led_id(jobs: Jobs, text: str, prefix: str = "Be brief.") -> str:
    led = jobs.engine.prefixes(prefix).versions(jobs.engine.encode(text)).led
    assert led is not None
    return led.chunk_id


def test_the_first_run_stores_what_the_collection_names(jobs: Jobs) -> None:
    jobs.write("a.txt", 100, "a")
    jobs.write("sub/b.md", 20, "b")
    done = jobs.run()
    collection = Collection.open(jobs.store, "docs")
    assert [document.path for document in collection.manifest.documents] == ["a.txt", "sub/b.md"]
    assert stored(jobs) == named(jobs)
    assert len(stored(jobs)) == 2 * 5 + 2  # two versions of each chunk; the prefix, with the lead and without
    assert (done.documents, done.chunks, done.computed, done.reused, done.dropped) == (2, 5, 5, 0, 0)
    assert done.tokens == done.computed_tokens == 120
    # Versions, tokens, layers, keys and values, head size, float32.
    assert done.bytes == 2 * 120 * 2 * 2 * 4 * 4
    assert done.chunks == len(collection.chunks)
    words = " ".join(chunk.text for chunk in collection.chunks).split()
    assert words == [f"a{i}" for i in range(100)] + [f"b{i}" for i in range(20)]
    for chunk in collection.chunks:  # what the index names is what was computed, behind the prefix
        record = jobs.engine.store.record(chunk.chunk_id)
        assert record is not None
        assert list(record.token_ids) == jobs.engine.encode(chunk.text)
        assert record.prefix_ids == jobs.engine.prefix_ids("Be brief.")
        led = jobs.engine.store.record(led_id(jobs, chunk.text))
        assert led is not None
        assert (led.token_ids, led.prefix_ids[:2]) == (record.token_ids, record.prefix_ids)
        assert led.prefix_ids[2:] == lead_ids(jobs.engine.encode)


def test_the_prefix_is_stored_as_a_chunk_and_counted_as_none(jobs: Jobs) -> None:
    jobs.write("a.txt", 10)
    done = jobs.run()
    settings = Collection.open(jobs.store, "docs").settings
    assert settings.prefix_chunk_id is not None
    record = jobs.engine.store.record(settings.prefix_chunk_id)
    assert record is not None
    assert (record.token_ids, record.prefix_ids) == (jobs.engine.prefix_ids("Be brief."), ())
    assert (done.chunks, done.computed, done.tokens) == (1, 1, 10)
    [document] = Collection.open(jobs.store, "docs").manifest.documents
    assert len(document.chunk_ids) == 1


def test_an_empty_prefix_needs_no_chunk(jobs: Jobs) -> None:
    jobs.write("a.txt", 10)
    jobs.run(prefix="")
    assert Collection.open(jobs.store, "docs").settings.prefix_chunk_id is None
    assert stored(jobs) == named(jobs)
    assert len(stored(jobs)) == 3  # the chunk in two versions, and the lead


def test_a_chunk_too_long_to_stand_behind_the_lead_has_its_plain_version_only(jobs: Jobs) -> None:
    jobs.write("a.txt", 40)  # 32 tokens and 8
    room = len(jobs.engine.prefix_ids("Be brief.")) + len(lead_ids(jobs.engine.encode)) + 20
    done = jobs.run(max_model_len=room)
    assert (done.chunks, done.computed, done.computed_tokens) == (2, 2, 40)
    assert done.bytes == (32 + 8 + 8) * 2 * 2 * 4 * 4
    assert stored(jobs) == named(jobs)
    assert len(stored(jobs)) == 3 + 2
    assert jobs.run(max_model_len=room).computed == 0
    assert jobs.run().computed == 1, "there is room now"
    assert jobs.run(max_model_len=room).computed == 0
    (jobs.folder / "a.txt").unlink()
    jobs.write("b.txt", 8, "other")
    assert jobs.run(max_model_len=room).dropped == 2
    assert stored(jobs) == named(jobs)


def test_chunks_that_share_text_are_stored_with_their_echoes(jobs: Jobs) -> None:
    jobs.write("a.txt", 300, "word")
    jobs.write("b.txt", 220, "word")  # two thirds of its text is the other's
    jobs.write("c.txt", 200, "other")
    jobs.run(chunk_tokens=400)
    plain_ids = {path: ids[0] for path, ids in entries(jobs).items()}
    echoes = [record for record in map(jobs.engine.store.record, stored(jobs)) if record and record.is_echo]
    prefixes = jobs.engine.prefixes("Be brief.")
    assert {prefixes.plain_id(echo) for echo in echoes} == {plain_ids["a.txt"], plain_ids["b.txt"]}
    (jobs.folder / "a.txt").unlink()
    jobs.run(chunk_tokens=400)
    assert stored(jobs) >= named(jobs)
    left = [record for record in map(jobs.engine.store.record, stored(jobs)) if record]
    assert plain_ids["a.txt"] not in {prefixes.plain_id(record) for record in left}, "and go with them"


def entries(jobs: Jobs) -> dict[str, tuple[str, ...]]:
    """Chunk ids of each document of the collection."""
    documents = Collection.open(jobs.store, "docs").manifest.documents
    return {document.path: document.chunk_ids for document in documents}


def test_long_chunks_are_led_from_afar_and_short_ones_are_not(jobs: Jobs) -> None:
    jobs.write("a.txt", 2 * LONG_TOKENS + 10)
    jobs.run(chunk_tokens=LONG_TOKENS, max_model_len=5000)
    assert stored(jobs) == named(jobs)
    assert len(stored(jobs)) == 2 * 3 + 3, "the lead stands behind the prefix, and far behind it"
    has_gap = [record.position_gap is not None for record in jobs.engine.computed if record.prefix_ids]
    assert sorted(has_gap) == [False] * 4 + [True] * 2
    jobs.run(chunk_tokens=LONG_TOKENS, max_model_len=5000)
    assert jobs.engine.computed == []


def test_no_lead_is_computed_when_no_chunk_can_stand_behind_it(jobs: Jobs) -> None:
    jobs.write("a.txt", 40)
    jobs.run(max_model_len=100)
    assert len(jobs.engine.computed) == 2 + 1


def test_batches_are_as_large_as_the_engine_likes(jobs: Jobs) -> None:
    jobs.write("a.txt", 300)
    jobs.run()  # 10 chunks of up to 32 tokens, at most 100 tokens a call, once for each version
    prefix, led_prefix, *calls = jobs.engine.calls
    assert (prefix, led_prefix) == (2, 2 + len(lead_ids(jobs.engine.encode)))
    assert len(calls) == 2 * 4
    assert calls[::2] == calls[1::2]
    assert max(calls) <= 100
    progress = [event for event in jobs.events if isinstance(event, Computed)]
    assert [event.chunks for event in progress] == [3, 6, 9, 10]
    assert (progress[-1].tokens, progress[-1].left_s) == (300, 0.0)
    assert progress[-1].bytes == 2 * 300 * 2 * 2 * 4 * 4
    assert progress[-1].tokens_per_s == pytest.approx(300 / progress[-1].seconds)


def test_the_second_run_computes_and_embeds_nothing(jobs: Jobs) -> None:
    jobs.write("a.txt", 100)
    jobs.run()
    before = Collection.open(jobs.store, "docs")
    done = jobs.run()
    assert jobs.engine.computed == []
    assert not any(isinstance(event, Embedded) for event in jobs.events)
    assert (done.computed, done.reused, done.dropped, done.bytes) == (0, 4, 0, 0)
    assert before.is_current()  # a server need not load it again


@pytest.mark.parametrize("version", ["plain", "led"])
def test_only_the_version_that_is_missing_is_computed(jobs: Jobs, version: str) -> None:
    jobs.write("a.txt", 64)
    jobs.run()
    whole = stored(jobs)
    chunk = Collection.open(jobs.store, "docs").chunks[1]
    missing = chunk.chunk_id if version == "plain" else led_id(jobs, chunk.text)
    jobs.engine.store.delete(missing)
    done = jobs.run()
    assert [record.chunk_id for record in jobs.engine.computed] == [missing]
    assert (done.computed, done.reused, done.computed_tokens) == (1, 1, 32)
    assert done.bytes == 32 * 2 * 2 * 4 * 4
    [planned] = [event for event in jobs.events if isinstance(event, Planned)]
    assert (planned.reused, planned.to_compute, planned.tokens_to_compute) == (1, 1, 32)
    assert stored(jobs) == whole


def test_a_collection_that_was_stored_without_a_lead_gets_its_led_versions_only(jobs: Jobs) -> None:
    jobs.write("a.txt", 64)
    jobs.run(max_model_len=100)
    plain = stored(jobs)
    done = jobs.run()
    assert (done.computed, done.computed_tokens, done.dropped) == (2, 64, 0)
    assert all(record.offset > 2 for record in jobs.engine.computed if record.prefix_ids)
    assert len(jobs.engine.computed) == 2 + 1  # the led prefix came first
    assert plain < stored(jobs) == named(jobs)


def test_only_what_is_new_is_computed_and_what_is_gone_is_dropped(jobs: Jobs) -> None:
    jobs.write("keep.txt", 64, "keep")
    jobs.write("change.txt", 64, "before")
    jobs.write("gone.txt", 64, "gone")
    jobs.run()
    old = Collection.open(jobs.store, "docs")
    jobs.write("change.txt", 64, "after")
    (jobs.folder / "gone.txt").unlink()
    jobs.write("new.txt", 32, "new")
    done = jobs.run()
    assert (done.computed, done.reused, done.dropped) == (3, 2, 4)
    assert stored(jobs) == named(jobs)
    new = Collection.open(jobs.store, "docs")
    vectors = {chunk.text: new.index.vectors[row] for row, chunk in enumerate(new.chunks)}
    kept = [row for row, chunk in enumerate(old.chunks) if chunk.text in vectors]
    assert len(kept) == 2
    for row in kept:
        assert np.array_equal(vectors[old.chunks[row].text], old.index.vectors[row])
    assert np.array_equal(new.index.vectors, jobs.embedder.embed([chunk.text for chunk in new.chunks]))


def test_a_text_that_stands_twice_is_computed_once(jobs: Jobs) -> None:
    jobs.write("a.txt", 20)
    jobs.write("b.txt", 20)
    done = jobs.run()
    assert (done.documents, done.chunks, done.computed) == (2, 1, 1)
    [chunk] = Collection.open(jobs.store, "docs").chunks
    assert [place.source for place in chunk.places] == ["a.txt", "b.txt"]


def test_a_chunk_that_another_collection_needs_stays(jobs: Jobs) -> None:
    jobs.write("shared.txt", 32, "shared")
    jobs.write("own.txt", 32, "own")
    jobs.run("one")
    (jobs.folder / "own.txt").unlink()
    assert jobs.run("two").computed == 0
    jobs.write("shared.txt", 32, "other")
    done = jobs.run("one")
    assert done.dropped == 1  # own.txt's; shared.txt's is the other collection's still
    assert stored(jobs) == named(jobs, "one", "two")


def test_a_damaged_collection_keeps_the_others_from_dropping(jobs: Jobs) -> None:
    jobs.write("a.txt", 32, "a")
    jobs.write("b.txt", 32, "b")
    jobs.run("one")
    jobs.run("two")
    manifest = jobs.store / "collections" / "two" / "manifest.json"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:50])
    (jobs.folder / "a.txt").unlink()
    assert jobs.run("one").dropped == 0
    assert any(isinstance(event, Notice) and "nothing dropped" in event.message for event in jobs.events)
    manifest.write_bytes(whole)
    assert jobs.run("two").dropped == 0  # the other job is not finished with it
    assert jobs.run("one").dropped == 1  # what was put off is done now
    assert stored(jobs) == named(jobs, "one") == named(jobs, "two")


def test_the_lead_behind_a_prefix_stays_while_a_collection_has_that_prefix(jobs: Jobs) -> None:
    jobs.write("a.txt", 32)
    for name in ("one", "two"):
        jobs.run(name, prefix="")
    jobs.run("one", prefix="Be long.")
    assert stored(jobs) == named(jobs, "one", "two")
    done = jobs.run("two", prefix="Be long.")
    assert done.dropped == 1  # in both versions; the lead alone is gone as well, and is no chunk
    assert stored(jobs) == named(jobs, "one", "two")
    assert len(stored(jobs)) == 2 + 2


def test_a_led_version_goes_even_when_its_plain_one_is_gone_already(jobs: Jobs) -> None:
    jobs.write("a.txt", 32, "a")
    jobs.write("b.txt", 32, "b")
    jobs.run()
    first = Collection.open(jobs.store, "docs").chunks[0]
    jobs.engine.store.delete(first.chunk_id)
    (jobs.folder / "a.txt").unlink()
    jobs.run()
    assert stored(jobs) == named(jobs)


@pytest.mark.parametrize("change", [{"prefix": "Be long."}, {"chunk_tokens": 16}])
def test_another_setting_rebuilds_and_says_so(jobs: Jobs, change: dict[str, object]) -> None:
    jobs.write("a.txt", 64)
    jobs.run()
    done = jobs.run(**change)
    assert done.computed == done.chunks
    assert done.dropped >= 2
    assert [event for event in jobs.events if isinstance(event, Notice) and "rebuilding" in event.message]
    assert stored(jobs) == named(jobs)


def test_another_model_is_refused(jobs: Jobs) -> None:
    jobs.write("a.txt", 64)
    jobs.run(model="first")
    with pytest.raises(
        CollectionError, match=r"belongs to model fake \(first\), got fake \(second\).*another"
    ):
        jobs.run(model="second")
    assert Collection.open(jobs.store, "docs").settings.fingerprint == "first"


def test_a_collection_stays_in_its_namespace(jobs: Jobs) -> None:
    jobs.write("a.txt", 40)
    jobs.run("mine", namespace="acme")
    mine = set(jobs.engine.store.ids())
    with pytest.raises(CollectionError, match="belongs to namespace 'acme', got no namespace"):
        jobs.run("mine")
    jobs.run("everybodys")
    assert not mine & set(jobs.engine.store.ids())
    jobs.write("a.txt", 40, "other")
    finished = jobs.run("mine", namespace="acme")
    assert finished.computed == finished.dropped == 2
    assert Collection.open(jobs.store, "mine").settings.namespace == "acme"


@pytest.mark.parametrize("file", ["manifest.json", "index-*", "chunks-*"])
def test_a_damaged_collection_is_built_anew_from_what_is_stored(jobs: Jobs, file: str) -> None:
    jobs.write("a.txt", 64)
    jobs.run()
    [path] = (jobs.store / "collections" / "docs").glob(file)
    path.write_bytes(b"junk")
    done = jobs.run()
    assert (done.computed, done.reused) == (0, 2)
    assert any(isinstance(event, Notice) and "rebuilding it" in event.message for event in jobs.events)
    assert len(Collection.open(jobs.store, "docs").chunks) == 2


def test_a_stored_chunk_that_is_not_whole_is_computed_again(jobs: Jobs) -> None:
    jobs.write("a.txt", 64)
    jobs.run()
    chunk = Collection.open(jobs.store, "docs").chunks[0]
    path = jobs.engine.store.root / f"{chunk.chunk_id}.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert jobs.run().computed == 1
    record = jobs.engine.store.record(chunk.chunk_id)
    assert record is not None
    assert jobs.engine.store.get(record) is not None


def test_unreadable_files_are_named_and_the_rest_is_done(jobs: Jobs) -> None:
    jobs.write("good.txt", 10)
    (jobs.folder / "bad.md").write_bytes(b"caf\xe9")
    (jobs.folder / "picture").write_bytes(b"\x89PNG\0\0")
    done = jobs.run()
    assert (done.documents, done.unreadable, done.binary) == (1, 1, 1)
    assert [event.path for event in jobs.events if isinstance(event, FileUnreadable)] == ["bad.md"]


@pytest.mark.parametrize("content", [None, b"\xff\xfe\xfd"])
def test_a_folder_without_a_readable_document_leaves_the_collection(
    jobs: Jobs, content: bytes | None
) -> None:
    jobs.write("a.txt", 10)
    jobs.run()
    (jobs.folder / "a.txt").unlink()
    if content is not None:
        (jobs.folder / "a.txt").write_bytes(content)
    with pytest.raises(PrecomputeError, match="expected text, Markdown"):
        jobs.run()
    assert len(Collection.open(jobs.store, "docs").chunks) == 1


def test_a_missing_folder(jobs: Jobs) -> None:
    jobs.folder.rmdir()
    with pytest.raises(PrecomputeError, match="expected a folder of documents, found nothing"):
        jobs.run()
    assert not jobs.store.joinpath("collections").exists()


# 7 chunks, three of each version at a time. A chunk is reused when both of its versions are stored.
@pytest.mark.parametrize(("allowed", "reused"), [(12, 0), (18, 2), (22, 3)])
def test_a_full_disk_keeps_what_is_stored_and_the_next_run_continues(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch, allowed: int, reused: int
) -> None:
    jobs.write("a.txt", 200)
    sync, calls = os.fsync, 0

    def fill_up(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > allowed:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fill_up)
        with pytest.raises(StoreFull, match="no space left"):
            jobs.run()
    with pytest.raises(UnknownCollection):
        Collection.open(jobs.store, "docs")
    # A chunk syncs its file and the folder, as the journal did before it, and as the store did when its two
    # folders were made; the prefix came first, twice.
    kept = stored(jobs)
    assert len(kept) == (allowed - 4) // 2
    done = jobs.run()
    assert not {record.chunk_id for record in jobs.engine.computed} & kept
    assert (done.reused, done.computed) == (reused, done.chunks - reused)
    assert stored(jobs) == named(jobs)


def test_two_jobs_on_one_store_do_not_run_at_once(jobs: Jobs) -> None:
    jobs.write("a.txt", 10)
    with store_lock(jobs.store), pytest.raises(PrecomputeError, match="another job"):
        jobs.run()
    assert jobs.run().computed == 1


def test_the_plan_is_announced_before_anything_is_computed(jobs: Jobs) -> None:
    jobs.write("a.txt", 64)
    jobs.run()
    kinds = [type(event) for event in jobs.events]
    assert kinds.index(Planned) < kinds.index(Computed)
    [planned] = [event for event in jobs.events if isinstance(event, Planned)]
    assert (planned.chunks, planned.to_compute, planned.tokens_to_compute) == (2, 2, 64)


def test_defaults_make_sense() -> None:
    assert DEFAULTS.chunk_tokens == 512
    assert DEFAULTS.prefix == DEFAULTS.prefix.strip()
    assert DEFAULTS.prefix
    assert Path(DEFAULTS.embedder).name == DEFAULTS.embedder


def test_a_budget_that_evicts_the_collections_own_chunks_publishes_nothing(jobs: Jobs) -> None:
    jobs.write("a.txt", 200)
    with pytest.raises(StoreFull, match="raise disk_bytes"):
        jobs.run(disk_bytes=20_000)
    with pytest.raises(UnknownCollection):
        Collection.open(jobs.store, "docs")
    assert jobs.run().chunks and Collection.open(jobs.store, "docs").chunks


def test_another_embedding_model_embeds_anew_and_computes_nothing(jobs: Jobs) -> None:
    jobs.write("a.txt", 100)
    jobs.run()
    jobs.embedder.name = "other"
    done = jobs.run()
    assert done.computed == 0
    assert Collection.open(jobs.store, "docs").settings.embedder == "other"
    assert [event.message for event in jobs.events if isinstance(event, Notice)] == [
        "the embedding model is other, before words: embedding all chunks again"
    ]
    assert [event.chunks for event in jobs.events if isinstance(event, Embedded)] == [4]
