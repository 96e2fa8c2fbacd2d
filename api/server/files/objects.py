"""Files as OpenAI's clients see them."""

from typing import Literal

from pydantic import BaseModel

from api.server.files.file_store import FileRecord
from api.server.files.paging import Page
from api.server.files.upload import Purpose


class FileObject(BaseModel):
    """An uploaded file."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: Purpose
    status: Literal["processed"] = "processed"
    status_details: None = None


class FileList(BaseModel):
    """A page of files."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(BaseModel):
    """A file that is gone."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


def file_object(record: FileRecord) -> FileObject:
    """A file's record, as a client sees it."""
    return FileObject.model_validate(
        {
            "id": record.id,
            "bytes": record.num_bytes,
            "created_at": int(record.created_s),
            "expires_at": None if record.expires_s is None else int(record.expires_s),
            "filename": record.filename,
            "purpose": record.purpose,
        }
    )


def file_list(page: Page[FileRecord]) -> FileList:
    """A page of records, as a client sees it."""
    return FileList(
        data=[file_object(record) for record in page.items],
        first_id=page.first_id,
        last_id=page.last_id,
        has_more=page.has_more,
    )
