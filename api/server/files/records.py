"""Records of one kind: a folder with a JSON file for each record, written durably and read on demand."""

import logging
import os
import re
import secrets
import threading
import time
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from retriever.durable import write_durably

logger = logging.getLogger(__name__)

ID = re.compile(r"[a-z]+[-_][0-9a-f]{24}")
SUFFIX = ".json"


def new_id(kind: str) -> str:
    """A new unguessable id, such as ``file-3b1f...``.

    >>> bool(ID.fullmatch(new_id("file-"))), len(new_id("vs_"))
    (True, 27)
    """
    return kind + secrets.token_hex(12)


class Record(BaseModel):
    """Base of all records.

    Attributes:
        id: made by `new_id`.
        namespace: tenant that owns it, see `api.server.surface.keys`; other tenants do not see it.
        created_s: seconds since 1970, with fractions; lists are sorted by it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    namespace: str
    created_s: float = Field(default_factory=time.time)


Kept = TypeVar("Kept", bound=Record)


class Records(Generic[Kept]):
    """Records in a folder, which several servers may share; thread-safe.

    A record that was read is cached until its file changes.

    Args:
        folder: created with the first record.
    """

    def __init__(self, folder: Path, kind: type[Kept]) -> None:
        self.folder = folder
        self._kind = kind
        self._read: dict[str, tuple[tuple[int, int], Kept]] = {}
        self._writing = threading.Lock()

    def put(self, record: Kept) -> None:
        """Add a record, or replace the one of the same id.

        Raises:
            OSError: the record cannot be written; an earlier one stays.
        """
        with self._writing:
            self._write(record)

    def replace(self, old: Kept, new: Kept) -> bool:
        """Replace a record, unless it has been changed or removed since; returns whether it was replaced."""
        with self._writing:
            if self.get(old.id) != old:
                return False
            self._write(new)
            return True

    def get(self, key: str) -> Kept | None:
        """The record of an id; None for an unknown, invalid or damaged one."""
        if not ID.fullmatch(key):
            return None
        try:
            status = os.stat(self._path(key))
            stamp = (status.st_ino, status.st_mtime_ns)
            known = self._read.get(key)
            if known is None or known[0] != stamp:
                known = stamp, self._kind.model_validate_json(self._path(key).read_bytes())
                self._read[key] = known
            return known[1]
        except FileNotFoundError:
            self._read.pop(key, None)
            return None
        except ValidationError as error:
            logger.warning("%s is damaged and ignored: %s", self._path(key), error)
            return None

    def remove(self, key: str) -> None:
        """Delete a record, if it exists."""
        with self._writing:
            self._path(key).unlink(missing_ok=True)
            self._read.pop(key, None)

    def all(self) -> list[Kept]:
        """Every record, the oldest first."""
        try:
            names = [name.removesuffix(SUFFIX) for name in os.listdir(self.folder) if name.endswith(SUFFIX)]
        except FileNotFoundError:
            return []
        found = (self.get(name) for name in names)
        return sorted((one for one in found if one is not None), key=lambda one: (one.created_s, one.id))

    def _write(self, record: Kept) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_durably(self._path(record.id), record.model_dump_json().encode())

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{SUFFIX}"
