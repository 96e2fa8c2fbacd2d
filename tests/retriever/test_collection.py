"""Collections: what is published is opened, by name, whole, and never mixed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from retriever.collection import Collection, Place
from retriever.errors import CollectionError, UnknownCollection
from retriever.layout import check_name, list_collections, read_manifest
from retriever.manifest import DocumentEntry, Settings
from retriever.publish import ChunkText, publish
from tests.support.yardstick import soonest_s, unit_s

MakeCollection = Callable[..., Collection]


def test_what_is_published_is_opened(tmp_path: Path, make_collection: MakeCollection) -> None:
    opened = make_collection({"a.md": ["one", "two"], "b/c.txt": ["three \N{SNOWMAN}\u2028 and", "two"]})
    assert [chunk.text for chunk in opened.chunks] == ["one", "two", "three \N{SNOWMAN}\u2028 and"]
    assert opened.settings.prefix == "Be brief."
    assert opened.manifest == read_manifest(tmp_path, "docs")
    assert opened.index.vectors.shape == (3, 64)
    assert opened.manifest.chunk_ids == {chunk.chunk_id for chunk in opened.chunks} | {"prefix"}


def test_a_text_of_two_documents_is_one_chunk_with_two_places(make_collection: MakeCollection) -> None:
    opened = make_collection({"a.md": ["one", "two"], "b.md": ["two"]})
    assert opened.chunks[1].places == (Place("a.md", "Title of a.md", 1), Place("b.md", "Title of b.md", 0))


def test_unknown_collection_names_the_known_ones(tmp_path: Path, make_collection: MakeCollection) -> None:
    make_collection({"a": ["one"]}, name="here")
    with pytest.raises(UnknownCollection, match=r"'gone'.*there: here"):
        Collection.open(tmp_path, "gone")
    assert list_collections(tmp_path) == ["here"]


@pytest.mark.parametrize("name", ["", ".", "..", "../here", "a/b", "/etc", "a b", "a\n", "-x", "x" * 101])
def test_a_name_is_never_a_path(tmp_path: Path, make_collection: MakeCollection, name: str) -> None:
    make_collection({"a": ["one"]}, name="here")
    with pytest.raises(UnknownCollection):
        Collection.open(tmp_path, name)
    with pytest.raises(CollectionError, match="expected letters"):
        check_name(name)


@pytest.mark.parametrize("file", ["manifest.json", "chunks-*", "index-*", "words-*"])
@pytest.mark.parametrize("damage", ["flip", "truncate"])
def test_damage_is_found(tmp_path: Path, make_collection: MakeCollection, file: str, damage: str) -> None:
    make_collection({"a.md": ["one", "two"]})
    [path] = (tmp_path / "collections" / "docs").glob(file)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = b"" if damage == "truncate" else bytes([data[len(data) // 2] ^ 0x80])
    path.write_bytes(data)
    with pytest.raises(CollectionError, match=r"damaged.*run kvblend precompute"):
        Collection.open(tmp_path, "docs")


def test_a_missing_data_file_is_a_clear_error(tmp_path: Path, make_collection: MakeCollection) -> None:
    make_collection({"a.md": ["one"]})
    next((tmp_path / "collections" / "docs").glob("index-*")).unlink()
    with pytest.raises(CollectionError, match="lacks data files"):
        Collection.open(tmp_path, "docs")


def test_another_format_version_is_refused(tmp_path: Path, make_collection: MakeCollection) -> None:
    make_collection({"a.md": ["one"]})
    path = tmp_path / "collections" / "docs" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 99}))
    with pytest.raises(CollectionError, match="format version 99, expected 2.*run kvblend precompute again"):
        Collection.open(tmp_path, "docs")


def test_is_current_until_something_else_is_published(make_collection: MakeCollection) -> None:
    first = make_collection({"a.md": ["one"]})
    assert first.is_current()
    second = make_collection({"a.md": ["one", "two"]})
    assert not first.is_current()
    assert second.is_current()


def test_files_of_earlier_states_do_not_pile_up(tmp_path: Path, make_collection: MakeCollection) -> None:
    for i in range(5):
        make_collection({"a.md": ["one", f"number {i}"]})
    assert (
        len(list((tmp_path / "collections" / "docs").iterdir())) == 7
    )  # manifest, and two states of three files


def test_a_full_disk_keeps_the_old_state(
    tmp_path: Path, make_collection: MakeCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_collection({"a.md": ["one"]})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(CollectionError, match="no space left"):
            make_collection({"a.md": ["one", "two"]})
    assert [chunk.text for chunk in Collection.open(tmp_path, "docs").chunks] == ["one"]


WRITER = """
import sys
from pathlib import Path
import numpy as np
from retriever.manifest import DocumentEntry, Settings
from retriever.publish import ChunkText, publish

state = 0
print("ready", flush=True)
while True:
    state = state % 7 + 1
    ids = [f"{state}-{i}" for i in range(40 * state)]
    settings = Settings("live", "m", "fp", f"prefix {state}", None, 512, "rule", "words")
    vectors = np.full((len(ids), 8), state, dtype=np.float32)
    documents = [DocumentEntry("a", "a", "0", tuple(ids))]
    publish(Path(sys.argv[1]), settings, documents, [ChunkText(i, f"text {i}", 2) for i in ids], vectors)
"""


def test_a_reader_sees_one_state_while_a_writer_publishes_and_is_killed(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], cwd=root, stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        manifest = tmp_path / "collections" / "live" / "manifest.json"
        while not manifest.exists():
            time.sleep(0.01)
        seen = {read_one_state(tmp_path) for _ in range(150)}
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
    read_one_state(tmp_path)
    assert len(seen) > 1  # it really was publishing


def read_one_state(store: Path) -> int:
    opened = Collection.open(store, "live")
    state = int(opened.settings.prefix.removeprefix("prefix "))
    assert [chunk.text for chunk in opened.chunks] == [f"text {state}-{i}" for i in range(40 * state)]
    assert np.all(opened.index.vectors == state)
    return state


@pytest.mark.slow  # writing them takes seconds
def test_ten_thousand_chunks_open_in_well_under_a_second(tmp_path: Path) -> None:
    texts = {f"{i:032x}": f"{i} " + "some words of a chunk " * 90 for i in range(10_000)}  # 2 KB each
    documents = [DocumentEntry(f"{i}.md", "t", "0", tuple(texts)[i * 10 : i * 10 + 10]) for i in range(1000)]
    settings = Settings("big", "m", "fp", "p", None, 512, "rule", "words")
    chunks = [ChunkText(key, text, 500) for key, text in texts.items()]
    publish(tmp_path, settings, documents, chunks, np.ones((10_000, 384), dtype=np.float32))
    assert len(Collection.open(tmp_path, "big").chunks) == 10_000
    assert soonest_s(lambda: Collection.open(tmp_path, "big")) < 200 * unit_s()
