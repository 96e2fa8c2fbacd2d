"""Managed collections: documents come, change and go while others search; a restart loses nothing."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from api.server.chat_documents.forms import GivenDocument
from api.server.errors import (
    BadUpload,
    Busy,
    CollectionExists,
    NotManaged,
    TooLarge,
    UnknownDocument,
    UnknownJob,
)
from api.server.ingest.folders import Upload
from api.server.ingest.jobs import DocumentStatus, Status
from api.server.ingest.pacing import Interrupted
from api.server.settings import ServeConfig
from api.server.surface.request import namespace_in_force
from blend.errors import StoreFull
from precompute.journal import store_lock
from retriever.errors import UnknownCollection
from retriever.filters import parse_filter
from retriever.search import Search
from tests.support.ingesting_server import IngestingServer, ingesting_server, soon, wait_for

pytestmark = pytest.mark.asyncio

CATS, DOGS, BIRDS = (
    b"cats sleep for most of the day",
    b"dogs run after every ball",
    b"birds fly south in winter",
)


async def put(server: IngestingServer, path: str, data: bytes, name: str = "pets", **metadata: str) -> None:
    state = await server.ingest.finished(await server.ingest.put(name, path, data, metadata))
    assert state.status is Status.COMPLETED, state.error


@contextmanager
def as_tenant(namespace: str) -> Iterator[None]:
    """As a request with a key of this namespace."""
    token = namespace_in_force.set(namespace)
    try:
        yield
    finally:
        namespace_in_force.reset(token)


def is_known(server: IngestingServer, text: bytes) -> bool:
    """Whether a text is found in the prompts of who asks."""
    return any(piece.is_chunk for piece in server.library.chunk_texts().split(text.decode()))


def stored(server: IngestingServer) -> set[str]:
    return set(server.engine.store.ids())


async def test_a_document_is_found_when_its_job_has_completed_and_not_when_it_was_dropped(tmp_path):
    async with ingesting_server(tmp_path) as server:
        await server.ingest.create("pets", prefix="Be brief.")
        assert server.library.prefix_of("pets") == "Be brief."
        assert server.texts("pets", "who sleeps") == []
        await put(server, "a/cats.md", CATS)
        await put(server, "dogs.txt", DOGS)
        assert server.texts("pets", "cats sleep")[0] == CATS.decode()
        assert server.found("pets", "cats sleep")[0].source == "a/cats.md"
        state = await server.ingest.finished(await server.ingest.drop("pets", "a/cats.md"))
        assert state.documents == {"a/cats.md": DocumentStatus.COMPLETED}
        assert server.texts("pets", "cats sleep") == [DOGS.decode()]
        assert not (tmp_path / "documents" / "pets" / "a").exists()
        await server.ingest.finished(await server.ingest.drop("pets", "dogs.txt"))
        assert server.texts("pets", "dogs") == []


async def test_what_a_replaced_document_said_is_gone_from_search_prompts_and_the_store(tmp_path):
    async with ingesting_server(tmp_path) as server:
        await server.ingest.create("pets")
        await put(server, "one.txt", CATS)
        (old,) = server.found("pets", "cats")
        assert old.chunk_id in stored(server)
        await put(server, "one.txt", DOGS)
        assert server.texts("pets", "cats sleep") == [DOGS.decode()]
        assert old.chunk_id not in stored(server)
        assert not any(piece.is_chunk for piece in server.library.chunk_texts().split(CATS.decode()))
        assert any(piece.is_chunk for piece in server.library.chunk_texts().split(DOGS.decode()))


async def test_filters_know_what_was_said_of_a_document_until_it_is_replaced(tmp_path):
    async with ingesting_server(tmp_path) as server:
        await server.ingest.create("pets")
        await put(server, "cats.txt", CATS, lang="en")
        asked = Search(filter=parse_filter({"type": "eq", "key": "lang", "value": "en"}))
        assert len(server.library.search("pets", "cats", asked)) == 1
        await put(server, "cats.txt", CATS)
        assert server.library.search("pets", "cats", asked) == []


async def test_many_uploads_are_few_runs(tmp_path):
    async with ingesting_server(tmp_path) as server:
        await server.ingest.create("pets")
        server.engine.may_compute.clear()
        jobs = [await server.ingest.put("pets", f"{i}.txt", f"fact number {i}".encode()) for i in range(20)]
        assert [state.id for state in server.ingest.jobs("pets")] == jobs[::-1]
        server.engine.may_compute.set()
        states = [await server.ingest.finished(job) for job in jobs]
        assert {state.status for state in states} == {Status.COMPLETED}
        assert max(state.chunks_total for state in states) >= 18
        assert len(server.library.search("pets", "fact number", Search(top_k=30))) == 20


async def test_a_document_that_cannot_be_read_fails_alone(tmp_path):
    async with ingesting_server(tmp_path) as server:
        await server.ingest.create("pets")
        uploads = [Upload("cats.txt", CATS), Upload("bad.pdf", b"no pdf"), Upload("x.bin", b"\0\1\2")]
        state = await server.ingest.finished(await server.ingest.put_many("pets", uploads))
        assert state.status is Status.COMPLETED and state.error is None
        assert state.documents == {
            "cats.txt": DocumentStatus.COMPLETED,
            "bad.pdf": DocumentStatus.FAILED,
            "x.bin": DocumentStatus.FAILED,
        }
        assert state.errors["bad.pdf"] and "unsupported file type" in state.errors["x.bin"]
        assert server.texts("pets", "cats") == [CATS.decode()]


async def test_a_removal_does_not_wait_for_an_upload_that_takes_long(tmp_path):
    async with ingesting_server(tmp_path) as server:
        await server.ingest.create("pets")
        await put(server, "cats.txt", CATS)
        await put(server, "dogs.txt", DOGS)
        server.engine.may_compute.clear()
        server.engine.reached.clear()
        long = await server.ingest.put("pets", "birds.txt", BIRDS)
        await asyncio.to_thread(wait_for, server.engine.reached)
        dropped = await server.ingest.finished(await server.ingest.drop("pets", "cats.txt"))
        assert dropped.status is Status.COMPLETED
        assert server.texts("pets", "cats sleep") == [DOGS.decode()]
        assert not server.ingest.job(long).ended
        server.engine.may_compute.set()
        assert (await server.ingest.finished(long)).status is Status.COMPLETED
        assert server.texts("pets", "birds fly")[0] == BIRDS.decode()
        assert len(server.found("pets", "cats sleep")) == 2


async def test_a_server_that_starts_again_goes_on_with_what_was_not_ended(tmp_path):
    async with ingesting_server(tmp_path) as server:
        await server.ingest.create("pets", prefix="Be brief.")
        await put(server, "cats.txt", CATS)
        server.engine.may_compute.clear()
        server.engine.reached.clear()
        running = await server.ingest.put("pets", "dogs.txt", DOGS, {"lang": "en"})
        await asyncio.to_thread(wait_for, server.engine.reached)
        waiting = await server.ingest.put("pets", "birds.txt", BIRDS)
    async with ingesting_server(tmp_path) as server:
        assert server.library.names == ("pets",) and server.library.prefix_of("pets") == "Be brief."
        states = [await server.ingest.finished(job) for job in (running, waiting)]
        assert [state.status for state in states] == [Status.COMPLETED] * 2
        assert len(server.found("pets", "cats dogs birds")) == 3
    async with ingesting_server(tmp_path) as server:
        assert server.ingest.jobs("pets") == []
        assert list((tmp_path / "documents" / ".jobs").iterdir()) == []


async def test_an_engine_that_goes_before_its_server_costs_no_job(tmp_path, monkeypatch):
    async with ingesting_server(tmp_path) as server:
        await server.ingest.create("pets")

        def die(records):
            server.engine.reached.set()
            try:
                while True:
                    server.engine.interruption.heed()
            except Interrupted:
                raise RuntimeError("EngineCore encountered an issue") from None

        monkeypatch.setattr(server.engine, "compute", die)
        job = await server.ingest.put("pets", "cats.txt", CATS)
        await asyncio.to_thread(wait_for, server.engine.reached)
    assert not server.ingest.job(job).ended
    async with ingesting_server(tmp_path) as server:
        assert (await server.ingest.finished(job)).status is Status.COMPLETED
        assert server.texts("pets", "cats sleep") == [CATS.decode()]


async def test_a_removed_collection_leaves_nothing_but_what_another_one_needs(tmp_path):
    async with ingesting_server(tmp_path) as server:
        for name in ("pets", "other"):
            await server.ingest.create(name)
            await put(server, "cats.txt", CATS, name)
        (shared,) = server.found("pets", "cats")
        await put(server, "dogs.txt", DOGS)
        (own,) = server.library.search("pets", "dogs run", Search(top_k=1))
        server.engine.may_compute.clear()
        unfinished = await server.ingest.put("pets", "birds.txt", BIRDS)
        await server.ingest.remove("pets")
        assert server.ingest.job(unfinished).status is Status.FAILED
        with pytest.raises(UnknownCollection):
            server.found("pets", "cats")
        assert shared.chunk_id in stored(server) and own.chunk_id not in stored(server)
        assert not list(tmp_path.glob("*/pets*")) and not list(tmp_path.glob("documents/.*/pets*"))
        server.engine.may_compute.set()
        await server.ingest.create("pets")
        assert server.texts("pets", "cats") == []
        assert server.texts("other", "cats") == [CATS.decode()]


async def test_a_removal_that_was_stopped_is_ended_at_the_next_start(tmp_path):
    async with ingesting_server(tmp_path) as server:
        await server.ingest.create("pets")
        await put(server, "cats.txt", CATS)
    (tmp_path / "documents" / ".removed").mkdir()
    (tmp_path / "documents" / "pets").rename(tmp_path / "documents" / ".removed" / "pets")
    async with ingesting_server(tmp_path) as server:
        assert server.library.names == ()
        await server.ingest.worker.remove("pets")
        assert stored(server) == set() and not (tmp_path / "collections" / "pets").exists()


async def test_a_collection_of_its_owners_is_not_changed_here(tmp_path):
    async with ingesting_server(tmp_path) as server:
        await server.ingest.create("pets")
        await put(server, "cats.txt", CATS)
    (tmp_path / "documents" / "pets").rename(tmp_path / "mine")
    async with ingesting_server(tmp_path, "pets") as server:
        assert not server.ingest.manages("pets")
        for change in (
            server.ingest.put("pets", "x.txt", DOGS),
            server.ingest.drop("pets", "cats.txt"),
            server.ingest.remove("pets"),
        ):
            with pytest.raises(NotManaged, match="precompute"):
                await change
        with pytest.raises(CollectionExists):
            await server.ingest.create("pets")


async def test_what_is_over_a_limit_is_refused_and_stores_nothing(tmp_path):
    settings = ServeConfig(max_document_bytes=10, max_job_documents=2, max_metadata_bytes=20, max_jobs=1)
    async with ingesting_server(tmp_path, settings=settings) as server:
        await server.ingest.create("pets")
        with pytest.raises(TooLarge, match="11 bytes, expected at most 10"):
            await server.ingest.put("pets", "a.txt", b"x" * 11)
        with pytest.raises(TooLarge, match="got 3 documents"):
            await server.ingest.put_many("pets", [Upload(f"{i}.txt", b"x") for i in range(3)])
        for metadata in ({"key": "x" * 30}, {"path": "x"}, {"key": {"not": "flat"}}, {"key": None}):
            with pytest.raises(BadUpload, match="metadata"):
                await server.ingest.put("pets", "a.txt", b"x", metadata)  # type: ignore[arg-type]
        with pytest.raises(BadUpload, match="hidden"):
            await server.ingest.put_many("pets", [Upload("a.txt", b"x"), Upload("../b.txt", b"x")])
        assert list((tmp_path / "documents" / "pets").iterdir()) == []
        server.engine.may_compute.clear()
        first = await server.ingest.put("pets", "a.txt", b"one two")
        with pytest.raises(Busy):
            await server.ingest.put("pets", "b.txt", b"three")
        server.engine.may_compute.set()
        await server.ingest.finished(first)
        await put(server, "b.txt", b"three")


async def test_what_is_not_there_is_said(tmp_path):
    async with ingesting_server(tmp_path) as server:
        with pytest.raises(UnknownCollection):
            await server.ingest.put("pets", "a.txt", CATS)
        with pytest.raises(BadUpload, match="letters"):
            await server.ingest.create("../pets")
        await server.ingest.create("pets")
        with pytest.raises(UnknownDocument):
            await server.ingest.drop("pets", "a.txt")
        with pytest.raises(UnknownJob):
            server.ingest.updates("job-none")


async def test_what_one_tenant_puts_no_other_can_read_change_or_remove(tmp_path):
    async with ingesting_server(tmp_path) as server:
        await server.ingest.create("everybodys")
        with as_tenant("acme"):
            await server.ingest.create("pets")
            await put(server, "cats.md", CATS)
            assert server.texts("pets", "cats sleep") == [CATS.decode()]
            assert server.library.names == ("everybodys", "pets")
            with pytest.raises(NotManaged, match="is public"):
                await server.ingest.put("everybodys", "cats.md", CATS)
            assert is_known(server, CATS)
        of_acme = set(server.engine_of("acme").store.ids())
        assert of_acme and not of_acme & stored(server)
        for other in ("", "other"):
            with as_tenant(other):
                assert server.library.names == ("everybodys",) and not is_known(server, CATS)
                for attempt in (
                    server.ingest.put("pets", "dogs.md", DOGS),
                    server.ingest.drop("pets", "cats.md"),
                    server.ingest.remove("pets"),
                ):
                    with pytest.raises(UnknownCollection, match=r"served: everybodys\)"):
                        await attempt
        with as_tenant("acme"):
            await server.ingest.remove("pets")
        assert not set(server.engine_of("acme").store.ids())


async def test_documents_of_a_tenants_chats_are_its_own(tmp_path):
    async with ingesting_server(tmp_path) as server:
        text = CATS.decode()
        with as_tenant("acme"):
            await server.learning.chunks([GivenDocument("a", text)])
            await asyncio.to_thread(soon, lambda: not server.learning._runs.lacks([text], "acme"))
            assert is_known(server, CATS)
        assert not is_known(server, CATS) and server.learning._runs.lacks([text], "") == [text]
        assert not stored(server)
    async with ingesting_server(tmp_path) as again:
        with as_tenant("acme"):
            await again.learning.chunks([GivenDocument("b", DOGS.decode())])
            assert is_known(again, CATS), "what came before the restart is known with the first that comes"
        assert not is_known(again, DOGS)


async def test_a_path_cannot_run_through_a_document(tmp_path):
    async with ingesting_server(tmp_path) as server:
        await server.ingest.create("pets")
        await put(server, "a", CATS)
        with pytest.raises(BadUpload, match="is a document"):
            await server.ingest.put("pets", "a/b.txt", DOGS)


async def test_a_job_waits_for_another_process_that_writes_to_the_store(tmp_path):
    async with ingesting_server(tmp_path) as server:
        await server.ingest.create("pets")
        with store_lock(tmp_path):
            job = await server.ingest.put("pets", "cats.txt", CATS)
            await asyncio.sleep(0.2)
            assert not server.ingest.job(job).ended
        assert (await server.ingest.finished(job)).status is Status.COMPLETED


async def test_a_job_that_fails_says_why_and_the_next_one_catches_up(tmp_path, monkeypatch):
    async with ingesting_server(tmp_path) as server:
        await server.ingest.create("pets")
        with monkeypatch.context() as full:

            def refuse(chunk):
                raise StoreFull("no space left on the device")

            full.setattr(server.engine.store, "put", refuse)
            state = await server.ingest.finished(await server.ingest.put("pets", "cats.txt", CATS))
        assert (state.status, state.error) == (Status.FAILED, "no space left on the device")
        assert state.documents == {"cats.txt": DocumentStatus.FAILED}
        await put(server, "dogs.txt", DOGS)
        assert len(server.found("pets", "cats dogs")) == 2


async def test_ended_jobs_are_remembered_up_to_a_number(tmp_path):
    async with ingesting_server(tmp_path, settings=ServeConfig(max_ended_jobs=2)) as server:
        await server.ingest.create("pets")
        for i in range(4):
            await put(server, f"{i}.txt", f"fact {i}".encode())
        assert len(server.ingest.jobs("pets")) == 2


async def test_a_collection_of_another_model_is_left_alone(tmp_path):
    async with ingesting_server(tmp_path) as server:
        await server.ingest.create("pets")
    manifest = tmp_path / "collections" / "pets" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("fake-fingerprint", "other-fingerprint"))
    async with ingesting_server(tmp_path) as server:
        assert server.library.names == ()
    assert (tmp_path / "documents" / "pets").is_dir()


async def test_a_collection_is_made_with_the_servers_embedding_model_and_keeps_it(tmp_path):
    async with ingesting_server(tmp_path, settings=ServeConfig(embedder="the-first")) as server:
        await server.ingest.create("pets")
        await put(server, "a.md", CATS)
    async with ingesting_server(tmp_path, settings=ServeConfig(embedder="another")) as server:
        await put(server, "b.md", DOGS)
        await server.ingest.create("more")
        made = {name: server.library.retriever(name).collection.settings for name in ("pets", "more")}
    assert {name: one.embedder for name, one in made.items()} == {"pets": "the-first", "more": "another"}
