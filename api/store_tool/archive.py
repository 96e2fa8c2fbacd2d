"""A tar file of chunk files, named as in a store: `models/<mark>/chunks/<id>.safetensors`."""

import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from api.store_tool.catalogue import Catalogue, Key
from api.store_tool.shelves import DiskShelf
from blend.errors import StoreError
from blend.store.file_format.byte_source import HeldBytes
from blend.store.file_format.chunk_file import ChunkFile
from blend.store.file_format.chunk_header import BadFileError
from blend.store.layout import chunks_folder
from blend.store.tiers.ledger import SUFFIX

MEMBER = re.compile(rf"models/([0-9A-Za-z_-]+)/chunks/([0-9A-Za-z]+){re.escape(SUFFIX)}")


def write_archive(path: Path, catalogue: Catalogue, keys: Sequence[Key]) -> tuple[int, int]:
    """Write chunks, each verified, into a file, atomically.

    Returns:
        Number of chunks, and bytes of their files.

    Raises:
        StoreError: a chunk is damaged, or the file cannot be written; no file is left then.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    num_bytes = 0
    try:
        with tarfile.open(partial, "w") as archive:
            for key in keys:
                problem = catalogue.problem(key)
                if problem is not None:
                    raise StoreError(
                        f"chunk {key.chunk_id} is damaged: {problem}; run kvblend store verify --repair"
                    )
                store = catalogue.stores[key.mark]
                assert isinstance(store, DiskShelf), "the command refuses other tiers"
                file = store.path(key.chunk_id)
                name = chunks_folder(Path(), key.mark) / file.name
                archive.add(file, arcname=str(name), filter=_without_owner)
                num_bytes += archive.getmember(str(name)).size
        os.replace(partial, path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return len(keys), num_bytes


def read_archive(path: Path) -> Iterator[tuple[str, str, bytearray]]:
    """Chunks of a tar file, each verified: the mark of its model, its id, and its file.

    Raises:
        StoreError: the file cannot be read, has other content, or a chunk is damaged. Chunks before that one
            are good.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                yield _read(path, archive, member)
    except (OSError, tarfile.TarError) as error:
        raise StoreError(f"cannot read {path}: {error}") from error


def _read(path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[str, str, bytearray]:
    name = MEMBER.fullmatch(member.name)
    file = archive.extractfile(member) if name and member.isreg() else None
    if name is None or file is None:
        raise StoreError(f"{path} holds {member.name!r}: expected a file that kvblend store export wrote")
    data = bytearray(file.read())
    try:
        ChunkFile(HeldBytes(data), name[2]).check()
    except BadFileError as error:
        raise StoreError(f"{path}: chunk {name[2]} is damaged: {error}; export it again") from error
    return name[1], name[2], data


def _without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
