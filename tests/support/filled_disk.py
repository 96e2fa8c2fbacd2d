"""Runs a job on file systems too small for it, and again on the same made larger; run by test_disk_full.py.

Its file systems are its own: it wants `unshare --user --map-root-user --mount`. Prints a JSON object each.
"""

import json
import subprocess
import sys
from pathlib import Path

from blend.errors import BlendError
from precompute.errors import PrecomputeError
from retriever.errors import RetrieverError
from tests.support.fake_engine import FakeEngine
from tests.support.killed_job import published, run_job
from tests.support.killed_often import files_of

STEP_KIB = 52
ENOUGH_KIB = 4096


def mount(place: Path, size_kib: int, *options: str) -> None:
    """A file system in memory."""
    settings = ",".join([*options, f"size={size_kib}k"])
    subprocess.run(["mount", "-t", "tmpfs", "-o", settings, "tmpfs", str(place)], check=True)


def error_of_job(folder: Path, store: Path) -> str | None:
    """What a user is told, or None when the job came through."""
    try:
        run_job(folder, store)
    except (BlendError, PrecomputeError, RetrieverError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def main(folder: Path, root: Path) -> None:
    """Fill file systems of more and more bytes, until the job comes through at once."""
    mount(root, 4 * ENOUGH_KIB)
    run_job(folder, root / "enough")
    expected = files_of(root / "enough")
    place = root / "place"
    place.mkdir()
    for size_kib in range(STEP_KIB, ENOUGH_KIB, STEP_KIB):
        mount(place, size_kib)
        store = place / "store"
        error = error_of_job(folder, store)
        chunks = FakeEngine(store).store if (store / "models").is_dir() else None
        records = [chunks.record(key) for key in chunks.ids()] if chunks else []
        whole = [record is not None and chunks.get(record) is not None for record in records]
        partial = len(list(store.rglob(".*.tmp")))
        named = published(store)
        mount(place, ENOUGH_KIB, "remount")
        computed = len(run_job(folder, store).computed)
        report = {
            "size_kib": size_kib,
            "error": error,
            "stored": len(whole),
            "all_whole": all(whole),
            "partial_files": partial,
            "published": named is not None,
            "computed_after": computed,
            "equal_in_the_end": files_of(store) == expected,
        }
        print(json.dumps(report), flush=True)
        subprocess.run(["umount", str(place)], check=True)
        if error is None:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
