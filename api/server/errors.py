"""One table from errors to HTTP statuses, in the shape that OpenAI's clients understand."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError

from api.server.ingest.errors import (
    BadUpload,
    Busy,
    CollectionExists,
    IngestError,
    NotManaged,
    TooLarge,
    UnknownDocument,
    UnknownJob,
)
from blend.errors import BlendError, EngineNotReady, RequestError
from retriever.errors import (
    EmbedderError,
    QueryError,
    RetrieverError,
    UnknownCollection,
)


class NotAuthenticated(BlendError):
    """A request shows no key that this server knows."""


class ShuttingDown(BlendError):
    """The server finishes what it has begun, and begins nothing new."""


class FieldError(RequestError):
    """A field of a request's body is wrong.

    Attributes:
        param: dotted path of the field.
    """

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


def wrong_field(error: ValidationError, field: str) -> FieldError:
    """The first thing that a model of pydantic's found wrong, as an error of that field.

    Args:
        field: dotted path of the field, as it stands in the request.
    """
    first = error.errors(include_url=False)[0]
    got = "nothing" if first["type"] == "missing" else repr(first["input"])[:80]
    return FieldError(f"{field}: got {got}; {first['msg'][:1].lower()}{first['msg'][1:]}", field)


class NotThere(RequestError):
    """Nothing of the id that the request names."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an error looks like over HTTP.

    Attributes:
        headers: that tell a client what to do.
    """

    status: HTTPStatus
    type: str
    headers: tuple[tuple[str, str], ...] = ()


RETRY_AFTER_S = 5
_AGAIN = (("Retry-After", str(RETRY_AFTER_S)),)
_BAD_REQUEST = Answer(HTTPStatus.BAD_REQUEST, "BadRequestError")
_UNAVAILABLE = Answer(HTTPStatus.SERVICE_UNAVAILABLE, "ServiceUnavailableError", _AGAIN)
_OUR_FAULT = Answer(HTTPStatus.INTERNAL_SERVER_ERROR, "InternalServerError")


# First match wins, so a subclass stands before its base.
STATUSES: tuple[tuple[type[Exception], Answer], ...] = (
    (NotThere, Answer(HTTPStatus.NOT_FOUND, "NotFoundError")),
    (RequestError, _BAD_REQUEST),
    (QueryError, _BAD_REQUEST),
    (
        NotAuthenticated,
        Answer(HTTPStatus.UNAUTHORIZED, "AuthenticationError", (("WWW-Authenticate", "Bearer"),)),
    ),
    (UnknownCollection, Answer(HTTPStatus.NOT_FOUND, "NotFoundError")),
    (UnknownDocument, Answer(HTTPStatus.NOT_FOUND, "NotFoundError")),
    (UnknownJob, Answer(HTTPStatus.NOT_FOUND, "NotFoundError")),
    (CollectionExists, Answer(HTTPStatus.CONFLICT, "ConflictError")),
    (NotManaged, Answer(HTTPStatus.CONFLICT, "ConflictError")),
    (BadUpload, _BAD_REQUEST),
    (TooLarge, Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "RequestTooLargeError")),
    (Busy, Answer(HTTPStatus.TOO_MANY_REQUESTS, "RateLimitError", _AGAIN)),
    (ShuttingDown, _UNAVAILABLE),
    (EngineNotReady, _UNAVAILABLE),
    (EmbedderError, _UNAVAILABLE),
    (BlendError, _OUR_FAULT),
    (RetrieverError, _OUR_FAULT),
)


def answer_of(error: Exception) -> Answer:
    """Status and type of an error; anything unforeseen is the server's fault.

    >>> answer_of(RequestError("no")).status.value
    400
    """
    for kind, answer in STATUSES:
        if isinstance(error, kind):
            return answer
    return _OUR_FAULT


def error_body(error: Exception) -> dict[str, Any]:
    """The body of an error's answer.

    >>> error_body(FieldError("rag.top_k: got 0", "rag.top_k"))["error"]["param"]
    'rag.top_k'
    """
    answer = answer_of(error)
    return {
        "error": {
            "message": str(error),
            "type": answer.type,
            "param": error.param if isinstance(error, FieldError) else None,
            "code": answer.status.value,
        }
    }


class ErrorInfo(BaseModel):
    """What went wrong; `param` is the field of the request that caused it, if one did."""

    message: str
    type: str
    param: str | None
    code: int


class ErrorBody(BaseModel):
    """The body of every error's answer."""

    error: ErrorInfo


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """A route's errors, for its `responses`.

    >>> error_responses(404)[404]["description"]
    'Not Found'
    """
    return {
        int(status): {"model": ErrorBody, "description": HTTPStatus(status).phrase} for status in statuses
    }


def error_response(error: Exception) -> JSONResponse:
    """An error's answer."""
    answer = answer_of(error)
    return JSONResponse(error_body(error), answer.status, dict(answer.headers))


async def respond(request: Request, error: Exception) -> JSONResponse:
    """An exception handler for every error in the table."""
    return error_response(error)


def install_handlers(app: FastAPI) -> None:
    """Answer our own errors on all routes; vLLM's errors keep its own handlers."""
    app.add_exception_handler(BlendError, respond)
    app.add_exception_handler(RetrieverError, respond)
    app.add_exception_handler(IngestError, respond)
