"""Crash safety of a job: a lock on the store, and a journal of the chunk ids that it may leave behind."""

import fcntl
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from precompute.errors import PrecomputeError, StoreInUse
from retriever.durable import write_durably
from retriever.layout import collection_folder

FILE = "unfinished.json"


@contextmanager
def store_lock(store: Path) -> Iterator[None]:
    """Lock the store for one job; the operating system releases the lock when the process ends.

    Without the lock a job could drop a chunk that another, unpublished job has just found in the store.

    Raises:
        StoreInUse: another job holds it.
        PrecomputeError: the store cannot be written to.
    """
    try:
        store.mkdir(parents=True, exist_ok=True)
        file = open(store / "precompute.lock", "ab")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise PrecomputeError(f"cannot write to the store {store}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreInUse(f"another job is writing to the store {store}: wait for it to end") from error
        yield


class Journal:
    """Ids of all chunks that a collection may have in the store since its last finished job.

    It holds the id of every version of a chunk, and of the prefixes behind which chunks are computed. It is
    written before the first chunk is computed, and removed after the removed chunks are dropped. So a killed
    job leaves no orphan in the store, even if its documents change before the next run.
    """

    def __init__(self, store: Path, collection: str) -> None:
        self._path = collection_folder(store, collection) / FILE

    def read(self) -> frozenset[str]:
        """The ids; none when the last job finished."""
        return _read(self._path)

    def write(self, chunk_ids: Iterable[str]) -> None:
        """Replace the ids.

        Raises:
            PrecomputeError: the journal cannot be written.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(self._path, json.dumps(sorted(chunk_ids)).encode())
        except OSError as error:
            raise PrecomputeError(f"cannot write {self._path}: {error.strerror}") from error

    def clear(self) -> None:
        """Delete the journal at the end of the job."""
        self._path.unlink(missing_ok=True)


def ids_of_other_journals(store: Path, collection: str) -> frozenset[str]:
    """Ids that unfinished jobs of other collections may still need."""
    paths = (store / "collections").glob(f"*/{FILE}")
    return frozenset[str]().union(*(_read(path) for path in paths if path.parent.name != collection))


def _read(path: Path) -> frozenset[str]:
    try:
        return frozenset(map(str, json.loads(path.read_bytes())))
    except (FileNotFoundError, ValueError):
        # A damaged journal costs no more than an orphan in the store.
        return frozenset()
