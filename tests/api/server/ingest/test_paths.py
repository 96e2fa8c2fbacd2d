"""Paths of documents: what may be stored, and every trick that may not."""

import pytest

from api.server.errors import BadUpload
from api.server.ingest.folders import MAX_NAME_BYTES, check_path


@pytest.mark.parametrize(
    "path", ["a.md", "a/b/c.txt", "sp ace.md", "ünïcode/日本.txt", "a..b/c", "x" * MAX_NAME_BYTES]
)
def test_names_of_files_are_taken_as_they_are(path):
    assert check_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../a",
        "a/../b",
        "a/..",
        "./a",
        "a//b",
        "a/",
        ".hidden",
        "a/.git/config",
        "a\\b",
        "a\0b",
        "a\nb",
        "\ud800",
        " /a",
        "a.metadata.json",
        "x" * (MAX_NAME_BYTES + 1),
        "é" * (MAX_NAME_BYTES // 2 + 1),
        "/".join(["abcdefghi"] * 101),
    ],
)
def test_tricks_are_refused(path):
    with pytest.raises(BadUpload, match="document path"):
        check_path(path)
