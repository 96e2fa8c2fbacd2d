"""One table from errors to HTTP statuses, and one body of an error, in the shape of OpenAI's API.

Errors of the API itself, beside those of `blend.errors` and `retriever.errors`:

RequestError
├── FieldError              a field of the request is wrong
├── BadUpload               a path, a name or metadata that cannot be stored
├── NotThere                no object has the id that the request names
│   ├── UnknownDocument     the collection has no document of that path
│   └── UnknownJob          no job of that id, or it ended long ago
├── Conflict
│   ├── CollectionExists    a collection of that name exists
│   └── NotManaged          `kvblend precompute` builds the collection, or another namespace shares it
├── TooLarge                over a limit of size or number
└── Busy                    too many jobs are waiting
BlendError
├── NotAuthenticated        no API key, or an unknown one
└── ShuttingDown            the server finishes its requests and takes no new ones
"""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError

from blend.errors import BlendError, EngineNotReady, RequestError
from retriever.errors import EmbedderError, QueryError, RetrieverError, UnknownCollection


class FieldError(RequestError):
    """A field of a request's body is wrong.

    Attributes:
        param: dotted path of the field.
    """

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


class BadUpload(RequestError):
    """A path, a name or metadata that cannot be stored."""


class NotThere(RequestError):
    """No object has the id that the request names."""


class UnknownDocument(NotThere):
    """The collection has no document of that path."""


class UnknownJob(NotThere):
    """No job of that id."""


class Conflict(RequestError):
    """The state of a collection does not allow the request."""


class CollectionExists(Conflict):
    """A collection of that name exists."""


class NotManaged(Conflict):
    """The server does not manage the collection for this client."""


class TooLarge(RequestError):
    """Over a limit of size or number."""


class Busy(RequestError):
    """Too many jobs are waiting."""


class NotAuthenticated(BlendError):
    """A request shows no key that this server knows."""


class ShuttingDown(BlendError):
    """The server finishes its requests and takes no new ones."""


# First match wins, so a subclass stands before its base.
STATUSES: tuple[tuple[type[Exception], HTTPStatus], ...] = (
    (NotThere, HTTPStatus.NOT_FOUND),
    (UnknownCollection, HTTPStatus.NOT_FOUND),
    (Conflict, HTTPStatus.CONFLICT),
    (TooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (Busy, HTTPStatus.TOO_MANY_REQUESTS),
    (RequestError, HTTPStatus.BAD_REQUEST),
    (QueryError, HTTPStatus.BAD_REQUEST),
    (NotAuthenticated, HTTPStatus.UNAUTHORIZED),
    (ShuttingDown, HTTPStatus.SERVICE_UNAVAILABLE),
    (EngineNotReady, HTTPStatus.SERVICE_UNAVAILABLE),
    (EmbedderError, HTTPStatus.SERVICE_UNAVAILABLE),
)
RETRY_AFTER_S = 5
_AGAIN = {"Retry-After": str(RETRY_AFTER_S)}
HEADERS = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": "Bearer"},
    HTTPStatus.TOO_MANY_REQUESTS: _AGAIN,
    HTTPStatus.SERVICE_UNAVAILABLE: _AGAIN,
}
"""Headers of an error's answer that tell a client what to do, by status."""

_TYPES = {
    HTTPStatus.UNAUTHORIZED: "AuthenticationError",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "RequestTooLargeError",
    HTTPStatus.TOO_MANY_REQUESTS: "RateLimitError",
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


def status_of(error: Exception) -> HTTPStatus:
    """Status of an error; an error that the table does not hold is the server's fault.

    >>> status_of(RequestError("no")).value
    400
    """
    found = (status for kind, status in STATUSES if isinstance(error, kind))
    return next(found, HTTPStatus.INTERNAL_SERVER_ERROR)


def type_of(status: HTTPStatus) -> str:
    """The name of a status's error.

    >>> type_of(HTTPStatus.METHOD_NOT_ALLOWED)
    'MethodNotAllowedError'
    """
    name = status.phrase.title().replace(" ", "").replace("-", "")
    return _TYPES.get(status) or (name if name.endswith("Error") else f"{name}Error")


def error_body(error: Exception) -> dict[str, Any]:
    """The body of an error's answer.

    >>> error_body(FieldError("rag.top_k: got 0", "rag.top_k"))["error"]["param"]
    'rag.top_k'
    """
    status, param = status_of(error), error.param if isinstance(error, FieldError) else None
    info = ErrorInfo(message=str(error), type=type_of(status), param=param, code=status.value)
    return ErrorBody(error=info).model_dump()


def error_response(error: Exception) -> JSONResponse:
    """An error's answer."""
    status = status_of(error)
    return JSONResponse(error_body(error), status, HEADERS.get(status))


def wrong_field(error: ValidationError, field: str) -> FieldError:
    """The first error that pydantic found, as an error of a field.

    Args:
        field: dotted path of the field in the request.
    """
    first = error.errors(include_url=False)[0]
    got = "nothing" if first["type"] == "missing" else repr(first["input"])[:80]
    return FieldError(f"{field}: got {got}; {first['msg'][:1].lower()}{first['msg'][1:]}", field)


async def respond(request: Request, error: Exception) -> JSONResponse:
    """An exception handler for every error in the table."""
    return error_response(error)


def install_handlers(app: FastAPI) -> None:
    """Answer kvblend's errors on all routes; vLLM's errors keep vLLM's handlers."""
    app.add_exception_handler(BlendError, respond)
    app.add_exception_handler(RetrieverError, respond)
