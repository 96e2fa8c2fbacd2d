"""A disk that fills up, a real one: clear words, a valid store, and a job that goes on when there is room."""

import subprocess
from pathlib import Path

import pytest

from tests.support.job_processes import reports_of, write_documents

OWN_MOUNTS = ["unshare", "--user", "--map-root-user", "--mount"]


def may_mount(place: Path) -> bool:
    try:
        done = subprocess.run([*OWN_MOUNTS, "mount", "-t", "tmpfs", "tmpfs", str(place)], capture_output=True)
    except FileNotFoundError:
        return False
    return done.returncode == 0


@pytest.mark.slow  # dozens of file systems of different sizes
def test_a_disk_that_fills_up_anywhere_in_a_job(tmp_path: Path) -> None:
    if not may_mount(tmp_path):
        pytest.skip("this user may not mount a file system, not even in a namespace of its own")
    folder, root = tmp_path / "documents", tmp_path / "root"
    root.mkdir()
    write_documents(folder, "ab", num_words=320)
    reports = reports_of("filled_disk", folder, root, timeout_s=500, under=OWN_MOUNTS)
    *filled, last = reports
    assert len(filled) >= 3 and last["error"] is None
    assert len({report["stored"] for report in filled}) >= 3  # it filled up in different places
    for report in filled:
        assert "no space left" in report["error"].lower()
        assert not report["published"] and report["partial_files"] == 0
        assert report["computed_after"] == last["stored"] - report["stored"]
    assert any(report["error"].startswith("StoreFull") for report in filled)
    for report in reports:
        assert report["all_whole"] and report["equal_in_the_end"]
