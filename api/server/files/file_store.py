"""Uploaded files in a folder: the bytes and a record of each, both on disk before a client sees the file.

::

    <store>/files/
        file-<id>.data    the uploaded bytes, synced and renamed into place
        file-<id>.json    the record, written last: without a record there is no file
"""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from uuid import uuid4

from api.server.errors import NotThere, TooLarge
from api.server.files.records import Record, Records, new_id
from api.server.settings import DEFAULTS, ServeConfig
from blend.errors import BlendError

COPY_BYTES = 1 << 20
TEMPORARY = ".incoming-{}.tmp"
ABANDONED_S = 24 * 3600
"""Age from which a temporary file is deleted: younger ones may belong to another server on the same store."""


class FileDamaged(BlendError):
    """An uploaded file's bytes do not match their digest."""


class FileRecord(Record):
    """The record of an uploaded file.

    Attributes:
        filename: the client's name of the file, checked by `api.server.files.names`.
        num_bytes, sha256: of its bytes.
        expires_s: time of expiry, in seconds since 1970; None for never.
    """

    filename: str
    purpose: str
    num_bytes: int
    sha256: str
    expires_s: float | None = None


class FileStore:
    """The files of a store. Methods touch the disk: call them on a thread. Safe from several threads.

    Args:
        store: the store's folder.
        settings: limits of one file, and of all files together.
    """

    def __init__(self, store: Path, settings: ServeConfig = DEFAULTS) -> None:
        self.folder = store / "files"
        self.settings = settings
        self._records = Records(self.folder, FileRecord)
        self._remove_abandoned()

    def add(
        self, source: IO[bytes], filename: str, purpose: str, namespace: str, lives_s: int | None = None
    ) -> FileRecord:
        """Store a file. It is on disk when this returns.

        Args:
            source: read from its current position to its end.
            lives_s: seconds until the file expires.

        Raises:
            TooLarge: the file is too large, or the store is full.
            OSError: the file cannot be written.
        """
        key, now = new_id("file-"), time.time()
        with self._temporary() as path:
            num_bytes, sha256 = self._copy(source, path)
            held = sum(record.num_bytes for record in self._records.all())
            budget = self.settings.max_files_bytes
            if held + num_bytes > budget:
                raise TooLarge(
                    f"file: got {num_bytes} bytes; files hold {held} of {budget} bytes: delete some first"
                )
            os.replace(path, self._data(key))
        record = FileRecord(
            id=key,
            namespace=namespace,
            created_s=now,
            filename=filename,
            purpose=purpose,
            num_bytes=num_bytes,
            sha256=sha256,
            expires_s=None if lives_s is None else now + lives_s,
        )
        self._records.put(
            record
        )  # syncs the folder, so the name of the bytes is durable before that of the record
        return record

    def get(self, key: str, namespace: str) -> FileRecord:
        """A file's record.

        Raises:
            NotThere: no file of that id in the namespace, or it has expired.
        """
        record = self._records.get(key)
        if record is None or record.namespace != namespace or self._is_over(record):
            raise NotThere(f"no file {key[:80]!r}: expected the id of an uploaded file")
        return record

    def read(self, record: FileRecord) -> bytes:
        """The uploaded bytes of a file.

        Raises:
            NotThere: the file was deleted meanwhile.
            FileDamaged: the bytes do not match their digest.
        """
        try:
            data = self._data(record.id).read_bytes()
        except FileNotFoundError:
            raise NotThere(f"no file {record.id!r}: it was deleted") from None
        if hashlib.sha256(data).hexdigest() != record.sha256:
            raise FileDamaged(f"file {record.id!r} is damaged: delete it and upload it again")
        return data

    def all(self, namespace: str) -> list[FileRecord]:
        """Records of a namespace, the oldest first."""
        return [one for one in self._records.all() if one.namespace == namespace and not self._is_over(one)]

    def remove(self, record: FileRecord) -> None:
        """Delete a file, its record first."""
        self._records.remove(record.id)
        self._data(record.id).unlink(missing_ok=True)

    def _is_over(self, record: FileRecord) -> bool:
        if record.expires_s is None or time.time() < record.expires_s:
            return False
        self.remove(record)
        return True

    def _data(self, key: str) -> Path:
        return self.folder / f"{key}.data"

    def _copy(self, source: IO[bytes], path: Path) -> tuple[int, str]:
        """Copy to a new file and sync it; returns the number of bytes and their digest."""
        digest, num_bytes = hashlib.sha256(), 0
        with open(path, "xb") as file:
            while piece := source.read(COPY_BYTES):
                num_bytes += len(piece)
                check_size(num_bytes, self.settings)
                digest.update(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        return num_bytes, digest.hexdigest()

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / TEMPORARY.format(uuid4().hex)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _remove_abandoned(self) -> None:
        for path in self.folder.glob(TEMPORARY.format("*")):
            if time.time() - path.stat().st_mtime > ABANDONED_S:
                path.unlink(missing_ok=True)


def check_size(num_bytes: int, settings: ServeConfig) -> None:
    """Check the size of a file.

    Raises:
        TooLarge: the file is over the limit.
    """
    if num_bytes > settings.max_document_bytes:
        raise too_large(settings)


def too_large(settings: ServeConfig) -> TooLarge:
    """The error of a file over the limit."""
    return TooLarge(
        f"file: got more than {settings.max_document_bytes} bytes, which is the limit of one file"
    )
