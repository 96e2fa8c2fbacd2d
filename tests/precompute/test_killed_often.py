"""A job that is killed again and again, at any moment, leaves what an undisturbed one leaves, to the byte."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kills", [4, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_killed_at_random_moments(tmp_path: Path, kills: int) -> None:
    folder, root = tmp_path / "documents", tmp_path / "root"
    folder.mkdir()
    root.mkdir()
    for name in "abcd":
        (folder / f"{name}.txt").write_text(" ".join(f"{name}{i}" for i in range(320)))
    done = subprocess.run(
        [sys.executable, "-m", "tests.precompute.killed_often", str(folder), str(root), str(kills)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["kills"] >= kills
    assert report["unequal"] == []
    assert report["files"] > 80  # forty chunks in two versions
    assert not report["reader_complained"], done.stderr
    assert report["reads"] > 100
