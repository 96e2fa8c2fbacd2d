"""An upload: one file and its fields in a multipart form, as OpenAI's clients send it, streamed to disk."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from api.server.errors import FieldError, wrong_field
from api.server.files.file_store import check_size, too_large
from api.server.files.names import check_filename
from api.server.settings import ServeConfig

MAX_FIELDS = 8
MAX_FIELD_BYTES = 4096
FORM_BYTES = 64 << 10
"""Allowance for boundaries, headers and fields around the file."""

Purpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data"]


class UploadFields(BaseModel):
    """The form's fields besides the file, as OpenAI's clients name them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    purpose: Purpose
    anchor: Annotated[Literal["created_at"] | None, Field(alias="expires_after[anchor]")] = None
    seconds: Annotated[int | None, Field(alias="expires_after[seconds]", ge=3600, le=2_592_000)] = None


@dataclass(frozen=True, slots=True)
class Upload:
    """A received upload; `file` is open inside the context of `receive`."""

    file: BinaryIO
    filename: str
    fields: UploadFields


FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "additionalProperties": False,
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": list(Purpose.__args__)},  # type: ignore[attr-defined]
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {"type": "integer", "minimum": 3600, "maximum": 2_592_000},
                    },
                }
            }
        },
    }
}
"""The form in the OpenAPI document: FastAPI's own forms are read whole before their bytes can be counted."""


@asynccontextmanager
async def receive(request: Request, settings: ServeConfig) -> AsyncGenerator[Upload, None]:
    """Read an upload; a large file is kept in a temporary file, not in memory.

    Raises:
        FieldError: not such a form, or a field of it is wrong.
        TooLarge: the file is over the limit; the rest was not read.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise FieldError("file: expected multipart/form-data with file and purpose", "file")
    form = await _parse(request, settings)
    try:
        yield _checked(form, settings)
    finally:
        await form.close()


async def _parse(request: Request, settings: ServeConfig) -> FormData:
    parser = MultiPartParser(
        request.headers,
        _counted(request, settings),
        max_files=1,
        max_fields=MAX_FIELDS,
        max_part_size=MAX_FIELD_BYTES,
    )
    try:
        return await parser.parse()
    except _TooMuch:
        raise too_large(settings) from None
    except (MultiPartException, UnicodeError) as error:
        reason = error.message if isinstance(error, MultiPartException) else str(error)
        raise FieldError(f"file: the form cannot be read: {reason}", "file") from None


class _TooMuch(MultiPartException):
    """A subclass of the parser's error, since the parser closes its files on its own errors only."""


async def _counted(request: Request, settings: ServeConfig) -> AsyncGenerator[bytes, None]:
    limit, seen = settings.max_document_bytes + FORM_BYTES, 0
    async for piece in request.stream():
        seen += len(piece)
        if seen <= limit:
            yield piece
        elif seen > 2 * limit:  # an unread body would reset the connection before the client reads the answer
            break
    if seen > limit:
        raise _TooMuch("too large")


def _checked(form: FormData, settings: ServeConfig) -> Upload:
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise FieldError("file: the form has no file; expected file and purpose", "file")
    check_size(file.size or 0, settings)
    fields = {key: value for key, value in form.multi_items() if isinstance(value, str)}
    return Upload(file.file, check_filename(file.filename or ""), _fields(fields))


def _fields(given: Mapping[str, str]) -> UploadFields:
    try:
        fields = UploadFields.model_validate(given)
    except ValidationError as error:
        raise wrong_field(error, str(error.errors(include_url=False)[0]["loc"][0])) from None
    if (fields.anchor is None) != (fields.seconds is None):
        raise FieldError("expires_after: expected both anchor and seconds, or neither", "expires_after")
    return fields
