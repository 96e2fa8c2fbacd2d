"""Records of vector stores, of their files, and of batches of files.

::

    <store>/vector_stores/
        vs_<id>.json               a vector store
        vs_<id>/file-<id>.json     a file in it
        vs_<id>/batches/<id>.json  files that were added together
"""

import shutil
from pathlib import Path
from typing import Literal

from pydantic import Field

from api.server.errors import NotThere
from api.server.files.records import ID, Record, Records

Attributes = dict[str, str | bool | int | float]
Status = Literal["in_progress", "completed", "cancelled", "failed"]
STATUSES: tuple[Status, ...] = ("in_progress", "completed", "cancelled", "failed")


class StoreRecord(Record):
    """A vector store.

    Attributes:
        chunk_tokens: maximum tokens of a chunk.
        expires_days: days from the last use to its expiry; None for never.
        used_s: time of the last use in seconds since 1970, to the minute.
    """

    name: str = ""
    description: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    chunk_tokens: int
    expires_days: int | None = None
    used_s: float

    @property
    def expires_s(self) -> float | None:
        """Time of expiry in seconds since 1970."""
        return None if self.expires_days is None else self.used_s + 86_400 * self.expires_days


class MemberRecord(Record):
    """A file in a vector store; its id is the file's.

    Attributes:
        path: of its document in the collection.
        job: id of its last ingestion job.
        error: why ingestion failed.
        is_readable: False if the file itself caused the failure.
    """

    filename: str
    path: str
    num_bytes: int
    attributes: Attributes = Field(default_factory=dict)
    job: str
    status: Status = "in_progress"
    error: str | None = None
    is_readable: bool = True


class BatchRecord(Record):
    """Files that were added to a vector store together."""

    file_ids: tuple[str, ...]
    cancelled: bool = False


class Kept:
    """All records of a store's vector stores. Methods touch the disk: call them on a thread.

    Args:
        store: the store's folder.
    """

    def __init__(self, store: Path) -> None:
        self.folder = store / "vector_stores"
        self.stores = Records(self.folder, StoreRecord)
        self._members: dict[str, Records[MemberRecord]] = {}
        self._batches: dict[str, Records[BatchRecord]] = {}

    def store(self, store_id: str, namespace: str) -> StoreRecord:
        """A vector store's record.

        Raises:
            NotThere: no vector store of that id in the namespace.
        """
        record = self.stores.get(store_id)
        if record is None or record.namespace != namespace:
            raise NotThere(f"no vector store {store_id[:80]!r}: expected the id of a vector store")
        return record

    def members(self, store_id: str) -> Records[MemberRecord]:
        """Records of the files in a vector store."""
        assert ID.fullmatch(store_id)
        return self._members.setdefault(store_id, Records(self.folder / store_id, MemberRecord))

    def batches(self, store_id: str) -> Records[BatchRecord]:
        """Records of the batches of a vector store."""
        assert ID.fullmatch(store_id)
        return self._batches.setdefault(store_id, Records(self.folder / store_id / "batches", BatchRecord))

    def remove(self, store_id: str) -> None:
        """Delete a vector store's records, its own first."""
        self.stores.remove(store_id)
        self._members.pop(store_id, None)
        self._batches.pop(store_id, None)
        shutil.rmtree(self.folder / store_id, ignore_errors=True)
