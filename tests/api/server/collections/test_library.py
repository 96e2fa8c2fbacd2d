"""A server's collections: found, searched, and followed as they change on disk."""

import shutil
import time
from pathlib import Path

import pytest

from api.server.collections.library import LOOK_EVERY_S, Library
from blend.errors import ModelError
from retriever.errors import QueryError, UnknownCollection
from retriever.manifest import DocumentEntry, Settings
from retriever.publish import ChunkText, publish
from retriever.search import Search
from tests.support.word_embedder import WordEmbedder

CATS, DOGS = "cats sleep for most of the day", "dogs run after every ball"
BIRDS = "birds fly south when winter comes"


def put(
    store: Path, texts: list[str], name: str = "docs", fingerprint: str = "fp", namespace: str = ""
) -> None:
    """Publish a collection of one document a text; a chunk's id is its first word."""
    keyed = {text.split()[0]: text for text in texts}
    documents = [DocumentEntry(f"{key}.md", key, "0" * 64, (key,)) for key in keyed]
    settings = Settings(
        name, "the-model", fingerprint, "Be brief.", None, 512, "rule", WordEmbedder.name, namespace
    )
    chunks = [ChunkText(key, text, len(text.split())) for key, text in keyed.items()]
    publish(store, settings, documents, chunks, WordEmbedder().embed(texts))


def library(store: Path, *names: str) -> Library:
    return Library(store, names or ("docs",), opener=lambda name: WordEmbedder())


def known(text: str, served: Library) -> bool:
    return any(piece.is_chunk for piece in served.chunk_texts().split(text))


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock is a second look's time later."""
    ticks = iter(range(10**6))
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks) * LOOK_EVERY_S)


def test_texts_sources_and_search_come_from_every_collection(tmp_path):
    put(tmp_path, [CATS, DOGS])
    put(tmp_path, [BIRDS], name="more")
    served = library(tmp_path, "docs", "more")
    assert known(f"Read: {CATS}!", served)
    assert known(f"Read: {BIRDS}!", served)
    assert served.source_of("birds") == "birds.md"
    assert served.source_of("fish") is None
    assert served.search("docs", "who will run after a ball", Search(top_k=1))[0].text == DOGS
    assert (served.prefix_of("more"), served.model_name) == ("Be brief.", "the-model")


def test_chunks_are_chosen_by_their_ids_in_the_order_given(tmp_path):
    put(tmp_path, [CATS, DOGS, BIRDS])
    served = library(tmp_path)
    assert [hit.text for hit in served.choose("docs", ["dogs", "cats"])] == [DOGS, CATS]
    with pytest.raises(QueryError, match="chunk_ids: got 'fish', expected ids of chunks of 'docs'"):
        served.choose("docs", ["cats", "fish"])
    for wrong in ([], ["cats", "cats"]):
        with pytest.raises(QueryError, match="none twice"):
            served.choose("docs", wrong)


def test_a_server_without_collections_knows_nothing_and_is_a_server(tmp_path):
    served = Library(tmp_path, ())
    assert not known(CATS, served)
    with pytest.raises(Exception, match="no collection 'docs' is served here"):
        served.search("docs", "cats")


def test_a_change_on_disk_is_followed(tmp_path, later):
    put(tmp_path, [CATS])
    served = library(tmp_path)
    assert not known(DOGS, served)
    put(tmp_path, [DOGS])
    assert known(DOGS, served)
    assert not known(CATS, served)
    assert served.search("docs", "ball")[0].source == "dogs.md"


def test_nothing_is_looked_for_on_disk_twice_in_a_moment(tmp_path):
    put(tmp_path, [CATS])
    served = library(tmp_path)
    assert known(CATS, served)
    put(tmp_path, [DOGS])
    assert known(CATS, served)


@pytest.mark.parametrize("damage", ["gone", "another model's"])
def test_a_collection_that_became_unusable_is_served_as_it_was(tmp_path, later, damage, caplog):
    put(tmp_path, [CATS])
    served = library(tmp_path)
    if damage == "gone":
        shutil.rmtree(tmp_path / "collections" / "docs")
    else:
        put(tmp_path, [DOGS], fingerprint="other")
    assert known(CATS, served)
    assert "keeping the loaded version" in caplog.text


def test_collections_of_different_models_are_not_served_together(tmp_path):
    put(tmp_path, [CATS])
    put(tmp_path, [DOGS], name="other", fingerprint="other")
    with pytest.raises(ModelError, match="2 different models"):
        library(tmp_path, "docs", "other")


def test_a_collection_is_served_with_its_own_model_only(tmp_path):
    put(tmp_path, [CATS])
    served = library(tmp_path)
    served.check_model("fp")
    with pytest.raises(ModelError, match="the-model"):
        served.check_model("another")


def test_a_collection_is_added_and_removed_while_others_are_served(tmp_path):
    put(tmp_path, [CATS])
    served = library(tmp_path)
    put(tmp_path, [DOGS], name="more")
    served.add("more")
    assert served.names == ("docs", "more") and known(DOGS, served) and known(CATS, served)
    put(tmp_path, [BIRDS], name="more")
    served.add("more")
    assert known(BIRDS, served) and not known(DOGS, served)
    served.remove("more")
    served.remove("more")
    assert served.names == ("docs",) and not known(BIRDS, served)
    with pytest.raises(UnknownCollection, match="served: docs"):
        served.search("more", "birds")


def test_an_added_collection_that_another_server_removes_is_served_no_more(tmp_path, later):
    put(tmp_path, [CATS])
    served = library(tmp_path)
    put(tmp_path, [DOGS], name="more")
    served.add("more")
    shutil.rmtree(tmp_path / "collections" / "more")
    assert not known(DOGS, served) and known(CATS, served)
    assert served.names == ("docs",)


def test_what_another_server_adds_is_served_when_it_is_this_models(tmp_path, later, caplog):
    put(tmp_path, [CATS])
    served = library(tmp_path)
    served.follow(lambda: ["docs", "more", "others", "later"], "fp")
    put(tmp_path, [DOGS], name="more")
    put(tmp_path, [BIRDS], name="others", fingerprint="another")
    assert known(DOGS, served) and known(CATS, served) and not known(BIRDS, served)
    assert served.names == ("docs", "more")
    put(tmp_path, [BIRDS], name="later")
    assert known(BIRDS, served)
    assert caplog.text.count("collection others is not served: it was built for another model") == 1
    shutil.rmtree(tmp_path / "collections" / "more")
    assert not known(DOGS, served) and served.names == ("docs", "later")


def test_texts_of_no_collection_are_found_as_well_also_when_a_collection_changes(tmp_path, later):
    put(tmp_path, [CATS])
    served = library(tmp_path)
    served.know_also([BIRDS, CATS])
    assert known(BIRDS, served)
    put(tmp_path, [DOGS])
    assert known(DOGS, served) and known(BIRDS, served) and known(CATS, served)
    served.know_also([])
    assert not known(BIRDS, served) and not known(CATS, served)


def test_who_asks_sees_its_own_namespaces_collections_and_everybodys(tmp_path):
    put(tmp_path, [CATS])
    put(tmp_path, [DOGS], name="acmes", namespace="acme")
    asking = [""]
    served = Library(
        tmp_path, ["docs", "acmes"], opener=lambda name: WordEmbedder(), reader=lambda: asking[0]
    )
    served.know_also([BIRDS], "other")
    for who, names, texts in (
        ("", ("docs",), [CATS]),
        ("acme", ("docs", "acmes"), [CATS, DOGS]),
        ("other", ("docs",), [CATS, BIRDS]),
        ("new", ("docs",), [CATS]),
    ):
        asking[0] = who
        assert served.names == names
        assert tuple(one.settings.name for one in served.collections()) == names
        assert [text for text in (CATS, DOGS, BIRDS) if known(text, served)] == texts
        if who != "acme":
            with pytest.raises(UnknownCollection, match=r"served: docs\)"):
                served.search("acmes", "dogs")
    asking[0] = "acme"
    assert [hit.text for hit in served.search("acmes", "dogs")] == [DOGS]
