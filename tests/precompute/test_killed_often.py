"""A job that is killed again and again, at any moment, leaves what an undisturbed one leaves, to the byte."""

from pathlib import Path

import pytest

from tests.support.job_processes import reports_of, write_documents


@pytest.mark.slow  # half a minute, most of it imports
@pytest.mark.parametrize(
    "kills", [4, pytest.param(100, marks=[pytest.mark.exhaustive, pytest.mark.timeout(1800)])]
)
def test_killed_at_random_moments(tmp_path: Path, kills: int) -> None:
    folder, root = tmp_path / "documents", tmp_path / "root"
    root.mkdir()
    write_documents(folder, "abcd", num_words=320)
    (report,) = reports_of("killed_often", folder, root, str(kills), timeout_s=1500)
    assert report["kills"] >= kills
    assert report["unequal"] == []
    assert report["files"] > 80  # forty chunks in two versions
    assert not report["reader_complained"]
    assert report["reads"] > 100
