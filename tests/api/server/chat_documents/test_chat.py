"""Documents of chat requests: laid out as retrieved chunks are, and known when they come again."""

import asyncio

import pytest

from api.server.errors import FieldError
from api.server.settings import ServeConfig
from precompute.config import DEFAULTS as PRECOMPUTE
from tests.support.ingesting_server import IngestingServer, ingesting_server

pytestmark = pytest.mark.asyncio

QUESTION = [{"role": "user", "content": "Who sleeps?"}]
CATS, DOGS = "cats sleep for most of the day", "dogs run after every ball"


async def all_stored(server: IngestingServer, *texts: str) -> None:
    """Wait until the chunks of these texts are stored in all versions."""
    for _ in range(1000):
        if not server.learning._runs.lacks(texts, ""):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("they were not stored")


def known(server: IngestingServer, text: str) -> bool:
    return any(piece.is_chunk and piece.text == text for piece in server.library.chunk_texts().split(text))


async def test_documents_stand_behind_the_default_prefix_in_their_order(tmp_path):
    async with ingesting_server(tmp_path) as server:
        laid = await server.documents.lay_out([{"title": "D", "text": DOGS}, CATS], QUESTION)
        [system, user] = laid.messages
        assert system == {"role": "system", "content": PRECOMPUTE.prefix}
        assert user["content"] == f"D\n\n{DOGS}\n\n{CATS}\n\nWho sleeps?"
        assert list(laid.sources.values()) == ["D", "documents.1"]


async def test_a_long_document_is_cut_into_chunks_of_which_each_is_known(tmp_path):
    text = "\n\n".join(" ".join(f"word{i}" for i in range(n, n + 100)) for n in range(0, 1200, 100))
    async with ingesting_server(tmp_path) as server:
        laid = await server.documents.lay_out([text], QUESTION)
        assert len(laid.sources) == 3
        pieces = server.library.chunk_texts().split(laid.messages[-1]["content"])
        assert sum(piece.is_chunk for piece in pieces) == 3


async def test_a_document_that_was_new_is_stored_in_the_background(tmp_path):
    async with ingesting_server(tmp_path) as server:
        server.engine.may_compute.clear()
        laid = await server.documents.lay_out([CATS], QUESTION)
        (chunk_id,) = laid.sources
        assert known(server, CATS) and chunk_id not in server.engine.store
        server.engine.may_compute.set()
        await all_stored(server, CATS)
        assert chunk_id in server.engine.store
        computed = len(server.engine.computed)
        assert (await server.documents.lay_out([{"text": CATS}], QUESTION)).sources == {
            chunk_id: "documents.0"
        }
        await asyncio.sleep(0.1)
        assert len(server.engine.computed) == computed


async def test_after_a_restart_they_are_known(tmp_path):
    async with ingesting_server(tmp_path) as server:
        await server.documents.lay_out([CATS], QUESTION)
        await all_stored(server, CATS)
    async with ingesting_server(tmp_path) as server:
        assert known(server, CATS)
        assert not known(server, DOGS)


async def test_the_least_recently_used_one_makes_room_and_leaves_the_store(tmp_path):
    async with ingesting_server(tmp_path, settings=ServeConfig(max_learned_chunks=1)) as server:
        (cats,) = (await server.documents.lay_out([CATS], QUESTION)).sources
        await all_stored(server, CATS)
        await server.documents.lay_out([DOGS], QUESTION)
        await all_stored(server, DOGS)
        assert not known(server, CATS)
        for _ in range(500):
            if cats not in server.engine.store:
                break
            await asyncio.sleep(0.01)
        assert cats not in server.engine.store


async def test_what_a_collection_needs_stays_when_it_makes_room(tmp_path):
    async with ingesting_server(tmp_path, settings=ServeConfig(max_learned_chunks=1)) as server:
        await server.ingest.create("pets")
        await server.ingest.finished(await server.ingest.put("pets", "cats.txt", CATS.encode()))
        (cats,) = (await server.documents.lay_out([CATS], QUESTION)).sources
        assert cats == server.found("pets", "cats")[0].chunk_id
        await server.documents.lay_out([DOGS], QUESTION)
        await all_stored(server, DOGS)
        await asyncio.sleep(0.2)
        assert cats in server.engine.store and known(server, CATS)


async def test_they_do_not_wait_for_an_upload_that_takes_long(tmp_path, monkeypatch):
    monkeypatch.setattr("api.server.ingest.worker.PATIENCE_S", 0.0)
    async with ingesting_server(tmp_path) as server:
        await server.ingest.create("pets")
        server.engine.may_compute.clear()
        job = await server.ingest.put("pets", "dogs.txt", DOGS.encode())
        while not server.engine.reached.is_set():
            await asyncio.sleep(0.01)
        (cats,) = (await server.documents.lay_out([CATS], QUESTION)).sources
        await asyncio.sleep(0.1)
        server.engine.may_compute.set()
        await server.ingest.finished(job)
        ids = [record.chunk_id for record in server.engine.computed]
        (dogs,) = (hit.chunk_id for hit in server.found("pets", "dogs"))
        assert ids.index(cats) < ids.index(dogs)


@pytest.mark.parametrize("documents", [[1], [["x"]], [{"text": 1}], [None]])
async def test_what_is_no_document_is_named(tmp_path, documents):
    async with ingesting_server(tmp_path) as server:
        with pytest.raises(FieldError, match=r"documents\.0"):
            await server.documents.lay_out(documents, QUESTION)


async def test_a_conversation_without_a_question_is_refused(tmp_path):
    async with ingesting_server(tmp_path) as server:
        with pytest.raises(FieldError, match="empty question"):
            await server.documents.lay_out([CATS], [{"role": "system", "content": "Be brief."}])
