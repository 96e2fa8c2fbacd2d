"""Puts errors of all routes and mounted apps into the shape of OpenAI's API."""

import json
import logging
import traceback
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.server.errors import ErrorInfo, error_response, type_of
from blend.errors import BlendError, RequestError

logger = logging.getLogger(__name__)

FIELDS = tuple(ErrorInfo.model_fields)
_VALIDATION = "fastapi.dependencies.utils"
_REPLACED = {HTTPStatus.UNPROCESSABLE_ENTITY: HTTPStatus.BAD_REQUEST}
"""Statuses that OpenAI's API does not use, and their replacements."""


def in_shape(status: int, body: bytes) -> tuple[HTTPStatus, bytes]:
    """An error's status and body in the shape of OpenAI's API.

    Other fields of the body stay: clients of `/v1/messages` need `"type": "error"` beside `error`.

    Args:
        body: the route's answer: JSON of any shape, or text.

    >>> in_shape(404, b'{"detail":"Not Found"}')[1]
    b'{"error": {"message": "Not Found", "type": "NotFoundError", "param": null, "code": 404}}'
    """
    known = _known(status)
    data = _read(body)
    found = data.get("error") if isinstance(data, Mapping) else None
    if isinstance(found, Mapping) and isinstance(found.get("message"), str):
        if set(FIELDS) <= set(found) and found["code"] == known:
            return known, body
        kept = dict(found)
    else:
        kept = {"message": _message(found or data) or known.phrase}
    error = {"message": "", "type": type_of(known), "param": None, **kept, "code": known.value}
    others = dict(data) if isinstance(data, Mapping) and isinstance(found, Mapping) else {}
    return known, json.dumps({**others, "error": error}).encode()


def _known(status: int) -> HTTPStatus:
    try:
        return _REPLACED.get(HTTPStatus(status), HTTPStatus(status))
    except ValueError:  # not a status of HTTP
        return HTTPStatus.BAD_REQUEST if status < 500 else HTTPStatus.INTERNAL_SERVER_ERROR


def _read(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body.decode("utf-8", errors="replace").strip()


def _message(found: Any) -> str:
    if isinstance(found, Mapping):
        found = found.get("message") or found.get("detail") or found
    return found if isinstance(found, str) else json.dumps(found)


def is_about_the_body(error: BaseException) -> bool:
    """Whether a validator raised the error while it checked a request's body."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__") == _VALIDATION for frame, _ in frames)


class ShapeErrors:
    """ASGI middleware that puts errors into OpenAI's shape; other answers pass unchanged."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        start: Message | None = None
        body, is_begun = b"", False

        async def shaped(message: Message) -> None:
            nonlocal start, body, is_begun
            is_begun = True
            if message["type"] == "http.response.start" and message["status"] >= HTTPStatus.BAD_REQUEST:
                start = message
            elif start is None or message["type"] != "http.response.body":
                await send(message)
            else:
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    await _send_shaped(start, body, send)

        try:
            await self.app(scope, receive, shaped)
        except Exception as error:
            if is_begun:
                raise
            await error_response(_of(error))(scope, receive, send)


def _of(error: Exception) -> Exception:
    """An unexpected error as an error of the table."""
    if is_about_the_body(error):
        return RequestError(
            f"the body does not have the form that this route expects ({type(error).__name__})"
        )
    logger.error("a route failed", exc_info=error)
    return BlendError("the server failed at this request; its log says why")


async def _send_shaped(start: Message, body: bytes, send: Send) -> None:
    status, shaped = in_shape(start["status"], body)
    headers = MutableHeaders(raw=list(start["headers"]))
    headers["Content-Type"] = "application/json"
    headers["Content-Length"] = str(len(shaped))
    await send({**start, "status": int(status), "headers": headers.raw})
    await send({"type": "http.response.body", "body": shaped, "more_body": False})
