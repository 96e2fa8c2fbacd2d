"""Metadata that a folder gives of its documents, on its way into a collection."""

import json
from pathlib import Path

import pytest

from precompute.events import FileUnreadable
from precompute.metadata import read_metadata
from precompute.readers import Unreadable
from retriever.collection import Collection
from tests.precompute.conftest import Jobs


def described(jobs: Jobs, name: str, said: object) -> None:
    (jobs.folder / f"{name}.metadata.json").write_text(json.dumps(said))


def documents(jobs: Jobs) -> dict[str, object]:
    manifest = Collection.open(jobs.store, "docs").manifest
    return {document.path: document.metadata for document in manifest.documents}


def test_it_reaches_the_collection_and_is_no_document(jobs: Jobs) -> None:
    jobs.write("a.txt", 10)
    jobs.write("sub/b.txt", 10, "b")
    said = {"year": 2021, "lang": "en", "draft": False, "score": 0.5, "tags": ["x", "y"]}
    described(jobs, "sub/b.txt", said)
    assert jobs.run().documents == 2
    assert documents(jobs) == {"a.txt": {}, "sub/b.txt": {**said, "tags": ("x", "y")}}


def test_a_change_of_it_computes_and_embeds_nothing(jobs: Jobs) -> None:
    jobs.write("a.txt", 10)
    jobs.run()
    described(jobs, "a.txt", {"year": 2021})
    done = jobs.run()
    assert (done.computed, done.reused, done.dropped) == (0, 1, 0)
    assert documents(jobs) == {"a.txt": {"year": 2021}}
    (jobs.folder / "a.txt.metadata.json").unlink()
    jobs.run()
    assert documents(jobs) == {"a.txt": {}}


def test_one_without_its_document_is_a_document(jobs: Jobs) -> None:
    jobs.write("a.txt", 10)
    described(jobs, "gone.txt", {"year": 2021})
    assert jobs.run().documents == 2


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[1]", "got list, expected one JSON object"),
        (b'{"path": "x"}', "'path', which is reserved"),
        (b'{"year": null}', "'year': expected a string, a number, a boolean, or a list of those, got null"),
        (b'{"author": {"name": "x"}}', "'author': expected"),
        (b'{"tags": [["x"]]}', "'tags': expected"),
        (b'{"year": NaN}', "'year': expected"),
    ],
)
def test_what_cannot_be_read_is_named_and_the_document_goes_without(
    jobs: Jobs, said: bytes, reason: str
) -> None:
    jobs.write("a.txt", 10)
    (jobs.folder / "a.txt.metadata.json").write_bytes(said)
    done = jobs.run()
    assert (done.documents, done.unreadable) == (1, 1)
    [named] = [event for event in jobs.events if isinstance(event, FileUnreadable)]
    assert named.path == "a.txt.metadata.json"
    assert reason in named.reason
    assert documents(jobs) == {"a.txt": {}}


def test_a_file_that_went_away_meanwhile(tmp_path: Path) -> None:
    assert isinstance(read_metadata(tmp_path, "a.txt.metadata.json"), Unreadable)
