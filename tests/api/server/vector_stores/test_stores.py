"""`/v1/vector_stores` through OpenAI's own client, over a socket."""

import time
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from api.server.vector_stores.kept import StoreRecord
from tests.api.server.vector_stores.conftest import Served, serving

CATS, DOGS = "cats sleep for most of the day", "dogs run after every ball"
BIRDS = "birds fly south when winter comes"


def test_a_vector_store_is_made_changed_listed_and_deleted(served):
    stores = served.client.vector_stores
    made = stores.create(
        name="Pets",
        description="animals",
        metadata={"team": "a"},
        expires_after={"anchor": "last_active_at", "days": 7},
    )
    assert (made.name, made.metadata, made.status) == ("Pets", {"team": "a"}, "completed")
    assert made.expires_at == made.last_active_at + 7 * 86_400
    assert made.file_counts.total == made.usage_bytes == 0
    assert stores.retrieve(made.id) == made
    changed = stores.update(made.id, name="Animals")
    assert (changed.name, changed.metadata, changed.expires_after.days) == ("Animals", {"team": "a"}, 7)
    changed = stores.update(made.id, metadata={"b": "c"}, expires_after=None)
    assert (changed.name, changed.metadata, changed.expires_at) == ("Animals", {"b": "c"}, None)
    more = [stores.create().id for _ in range(3)]
    assert [one.id for one in stores.list(order="asc", after=made.id, limit=2)] == more
    assert [one.id for one in stores.list(before=made.id, limit=2).data] == more[1::-1]
    assert stores.delete(made.id).deleted
    assert not (served.store / "collections" / made.id).exists()
    assert not (served.store / "documents" / made.id).exists()
    for ask in (stores.retrieve, stores.delete, lambda key: stores.search(key, query="x")):
        with pytest.raises(openai.NotFoundError, match="no vector store"):
            ask(made.id)


def test_files_come_in_are_found_and_go(served):
    stores, files = served.client.vector_stores, served.client.vector_stores.files
    cats, dogs = served.upload("cats.md", CATS), served.upload("dogs.txt", DOGS)
    made = stores.create(file_ids=[cats])
    ready = files.poll(cats, vector_store_id=made.id, poll_interval_ms=20)
    assert (ready.status, ready.last_error, ready.usage_bytes) == ("completed", None, len(CATS))
    assert ready.chunking_strategy.static.max_chunk_size_tokens == 512
    ready = files.create_and_poll(dogs, vector_store_id=made.id, attributes={"wild": False, "legs": 4})
    assert ready.attributes == {"wild": False, "legs": 4}
    counts = stores.retrieve(made.id).file_counts
    assert (counts.completed, counts.total) == (2, 2)
    assert stores.retrieve(made.id).usage_bytes == len(CATS) + len(DOGS)
    assert [one.id for one in files.list(made.id)] == [dogs, cats]
    assert [one.id for one in files.list(made.id, filter="failed")] == []
    [content] = files.content(cats, vector_store_id=made.id).data
    assert content.text == CATS
    assert served.found(made.id, "who sleeps most of the day")[0] == "cats.md"
    assert files.delete(cats, vector_store_id=made.id).deleted
    assert served.found(made.id, "who sleeps most of the day") == ["dogs.txt"]
    with pytest.raises(openai.NotFoundError, match="in vector store"):
        files.retrieve(cats, vector_store_id=made.id)
    assert served.client.files.retrieve(cats).id == cats, "it stays uploaded"


def test_a_file_that_is_deleted_is_found_in_no_store_at_once(served):
    store = served.filled({"cats.md": CATS, "dogs.md": DOGS})
    [cats] = [one.id for one in served.client.files.list() if one.filename == "cats.md"][:1]
    served.engine.may_compute.clear()  # whatever ingestion does meanwhile
    try:
        served.client.files.delete(cats)
        assert served.found(store, CATS) == ["dogs.md"]
        assert served.client.vector_stores.retrieve(store).file_counts.total == 1
    finally:
        served.engine.may_compute.set()


def test_a_file_in_two_stores_is_two_documents(served):
    both = served.upload("cats.md", CATS)
    one, other = (served.client.vector_stores.create(file_ids=[both]).id for _ in range(2))
    for store in (one, other):
        served.client.vector_stores.files.poll(both, vector_store_id=store, poll_interval_ms=20)
    served.client.vector_stores.files.delete(both, vector_store_id=one)
    assert served.found(one, CATS) == []
    assert served.found(other, CATS) == ["cats.md"]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"type": "eq", "key": "lang", "value": "en"}, {"cats.md", "birds.md"}),
        ({"type": "ne", "key": "lang", "value": "en"}, {"dogs.md"}),
        ({"type": "gte", "key": "year", "value": 2020}, {"dogs.md", "birds.md"}),
        ({"type": "in", "key": "year", "value": [1999]}, {"cats.md"}),
        ({"type": "eq", "key": "title", "value": "Mr"}, {"dogs.md"}),
        ({"type": "eq", "key": "old", "value": True}, {"cats.md"}),
        (
            {
                "type": "and",
                "filters": [
                    {"type": "eq", "key": "lang", "value": "en"},
                    {"type": "gt", "key": "year", "value": 2000},
                ],
            },
            {"birds.md"},
        ),
    ],
)
def test_attributes_are_filtered_by(described, filters, names):
    served, store = described
    assert set(served.found(store, "animals", filters=filters)) == names


@pytest.fixture(scope="module")
def described(served: Served) -> tuple[Served, str]:
    texts = {"cats.md": "animals " + CATS, "dogs.md": "animals " + DOGS, "birds.md": "animals " + BIRDS}
    said: dict[str, dict[str, str | float | bool]] = {
        "cats.md": {"lang": "en", "year": 1999, "old": True},
        "dogs.md": {"lang": "de", "year": 2024, "title": "Mr"},
        "birds.md": {"lang": "en", "year": 2020},
    }
    store = served.client.vector_stores.create().id
    files: Any = [
        {"file_id": served.upload(name, text), "attributes": said[name]} for name, text in texts.items()
    ]
    batch = served.client.vector_stores.file_batches.create_and_poll(store, files=files, poll_interval_ms=20)
    assert batch.file_counts.completed == 3
    return served, store


def test_attributes_are_changed(described):
    served, store = described
    files = served.client.vector_stores.files
    [birds] = [one for one in files.list(store) if one.attributes.get("year") == 2020]
    changed = files.update(birds.id, vector_store_id=store, attributes={"lang": "fr", "year": 2020})
    assert (changed.attributes, changed.status) == ({"lang": "fr", "year": 2020}, "completed")
    french = {"type": "eq", "key": "lang", "value": "fr"}
    end_s = time.monotonic() + 60
    while served.found(store, "animals", filters=french) != ["birds.md"]:
        assert time.monotonic() < end_s
        time.sleep(0.05)
    files.update(birds.id, vector_store_id=store, attributes={"lang": "en", "year": 2020})
    while served.found(store, "animals", filters=french) != []:
        assert time.monotonic() < end_s
        time.sleep(0.05)


def test_a_search_ranks_scores_and_limits(described):
    served, store = described
    search = served.client.vector_stores.search
    results = search(store, query="animals " + DOGS, rewrite_query=True).data
    assert results[0].filename == "dogs.md" and results[0].content[0].text == "animals " + DOGS
    assert results[0].score == pytest.approx(1.0, abs=1e-5)
    assert all(0 <= one.score <= 1 for one in results)
    assert len(search(store, query="animals", max_num_results=2).data) == 2
    near = search(store, query="animals " + DOGS, ranking_options={"score_threshold": 0.9}).data
    assert [one.filename for one in near] == ["dogs.md"]
    several = search(store, query=["animals " + DOGS, "animals " + BIRDS], max_num_results=2)
    assert {one.filename for one in several.data} == {"dogs.md", "birds.md"}
    for weights in ({"embedding_weight": 1.0, "text_weight": 0.0}, {"embedding_weight": 0, "text_weight": 2}):
        said: Any = {"ranking_options": {"ranker": "none", "hybrid_search": weights}}
        assert served.found(store, "ball animals", **said)[0] == "dogs.md"


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"query": " "}, "query"),
        ({"query": "x" * 5000}, "query"),
        ({"query": []}, None),
        ({"query": "x", "max_num_results": 51}, None),
        ({"query": "x", "filters": {"type": "like", "key": "a", "value": "b"}}, None),
        ({"query": "x", "filters": {"type": "eq", "key": "a"}}, None),
        ({"query": "x", "ranking_options": {"ranker": "best"}}, None),
        ({"query": "x", "ranking_options": {"score_threshold": 2}}, None),
        (
            {"query": "x", "ranking_options": {"hybrid_search": {"embedding_weight": 1, "text_weight": 3}}},
            "ranking_options.hybrid_search",
        ),
        ({"query": "x", "more": 1}, None),
        ({}, None),
    ],
)
def test_a_search_that_is_none_is_refused(described, said, param):
    served, store = described
    answer = httpx.post(f"{served.client.base_url}vector_stores/{store}/search", json=said)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert param is None or error["param"] == param


def test_chunks_have_the_size_that_a_store_was_made_with(served):
    text = " ".join(f"word{number}" for number in range(350))
    size: Any = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0}}
    overlap: Any = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 20}}
    store = served.client.vector_stores.create(chunking_strategy=size).id
    file_id = served.upload("long.txt", text)
    files = served.client.vector_stores.files
    with pytest.raises(openai.BadRequestError, match="overlap_tokens: got 20, expected 0"):
        files.create(store, file_id=file_id, chunking_strategy=overlap)
    with pytest.raises(openai.BadRequestError, match="overlap_tokens: got 20, expected 0"):
        served.client.vector_stores.create(chunking_strategy=overlap)
    size["static"]["max_chunk_size_tokens"] = 200
    with pytest.raises(openai.BadRequestError, match="got 200, expected 100, the chunk size of this"):
        files.create(store, file_id=file_id, chunking_strategy=size)
    for chunking in ({"type": "auto"}, None):
        said = {"chunking_strategy": chunking} if chunking else {}
        ready = files.create_and_poll(file_id, vector_store_id=store, **said)
        assert ready.chunking_strategy.static.max_chunk_size_tokens == 100
    assert len(files.content(file_id, vector_store_id=store).data) == 4


def test_a_file_that_cannot_be_read_has_failed_and_says_why(served):
    made = served.client.files.create(file=("broken.md", b"\xfa\x80\x81 no text"), purpose="assistants")
    store = served.client.vector_stores.create().id
    failed = served.client.vector_stores.files.create_and_poll(made.id, vector_store_id=store)
    assert failed.status == "failed"
    assert failed.last_error.code == "invalid_file" and failed.last_error.message
    assert served.client.vector_stores.retrieve(store).file_counts.failed == 1


def test_a_batch_counts_its_files_and_is_cancelled(served):
    batches = served.client.vector_stores.file_batches
    store = served.filled({"birds.md": BIRDS})
    ids = [served.upload(f"{number}.md", f"{CATS} {number}") for number in range(3)]
    served.engine.may_compute.clear()
    try:
        batch = batches.create(store, file_ids=ids)
        assert (batch.status, batch.file_counts.in_progress, batch.file_counts.total) == ("in_progress", 3, 3)
        assert {one.id for one in batches.list_files(batch.id, vector_store_id=store)} == set(ids)
        assert batches.retrieve(batch.id, vector_store_id=store) == batch
        batch = batches.cancel(batch.id, vector_store_id=store)
        assert (batch.status, batch.file_counts.cancelled) == ("cancelled", 3)
        assert served.found(store, CATS) == ["birds.md"]
    finally:
        served.engine.may_compute.set()
    listed = batches.list_files(batch.id, vector_store_id=store, filter="cancelled").data
    assert {one.id for one in listed} == set(ids)
    with pytest.raises(openai.NotFoundError, match="no batch"):
        batches.retrieve("vsfb_" + "0" * 24, vector_store_id=store)
    for wrong in ({}, {"file_ids": []}, {"file_ids": ids, "files": [{"file_id": ids[0]}]}):
        with pytest.raises(openai.BadRequestError, match="one of them and not empty"):
            batches.create(store, **wrong)
    with pytest.raises(openai.BadRequestError, match="no file"):
        batches.create(store, file_ids=["file-" + "0" * 24])


def test_uploads_and_polls_of_the_client_work(served, tmp_path):
    store = served.client.vector_stores.create(name="polled").id
    paths = [tmp_path / f"{name}.md" for name in ("cats", "dogs")]
    for path, text in zip(paths, (CATS, DOGS), strict=True):
        path.write_text(text)
    uploaded = [path.open("rb") for path in paths]
    batch = served.client.vector_stores.file_batches.upload_and_poll(
        store, files=uploaded, poll_interval_ms=20
    )
    for file in uploaded:
        file.close()
    assert (batch.status, batch.file_counts.completed) == ("completed", 2)
    assert served.found(store, "ball")[0] == "dogs.md"


def test_a_store_that_nobody_used_expires(served):
    store = served.filled({"cats.md": CATS}, expires_after={"anchor": "last_active_at", "days": 1})
    path = served.store / "vector_stores" / f"{store}.json"
    old = StoreRecord.model_validate_json(path.read_bytes()).model_copy(update={"used_s": 1.0})
    path.write_text(old.model_dump_json())
    assert served.client.vector_stores.retrieve(store).status == "expired"
    with pytest.raises(openai.BadRequestError, match="has expired"):
        served.found(store, CATS)


def test_what_was_in_progress_is_ended_after_a_restart(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        store = served.filled({"birds.md": BIRDS}, name="kept")
        served.engine.may_compute.clear()
        cats = served.upload("cats.md", CATS)
        served.client.vector_stores.files.create(store, file_id=cats)
    with serving(tmp_path) as served:
        ready = served.client.vector_stores.files.poll(cats, vector_store_id=store, poll_interval_ms=20)
        assert ready.status == "completed"
        assert served.client.vector_stores.retrieve(store).name == "kept"
        assert served.found(store, CATS)[0] == "cats.md"


def test_a_namespace_sees_its_own_stores_and_files_alone(served):
    store = served.filled({"cats.md": CATS})
    [cats] = [one.id for one in served.client.vector_stores.files.list(store)]
    other = served.client.with_options(default_headers={"x-who": "bob"})
    assert other.vector_stores.list().data == []
    for ask in (other.vector_stores.retrieve, other.vector_stores.delete, other.vector_stores.update):
        with pytest.raises(openai.NotFoundError):
            ask(store)
    with pytest.raises(openai.NotFoundError):
        other.vector_stores.search(store, query=CATS)
    with pytest.raises(openai.BadRequestError, match="no file"):
        other.vector_stores.create(file_ids=[cats])


def test_a_store_that_cannot_be_is_refused(served):
    for wrong in (
        {"name": 1},
        {"metadata": {"a": 1}},
        {"metadata": {str(number): "x" for number in range(17)}},
        {"expires_after": {"anchor": "last_active_at", "days": 0}},
        {"expires_after": {"anchor": "created_at", "days": 1}},
        {"file_ids": ["file-" + "0" * 24]},
        {"file_ids": ["../../etc/passwd"]},
        {"chunking_strategy": {"type": "other"}},
        {"unknown": 1},
    ):
        answer = httpx.post(f"{served.client.base_url}vector_stores", json=wrong)
        assert answer.status_code == 400, (wrong, answer.text)
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
