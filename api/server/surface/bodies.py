"""Checks of request bodies before any route sees them: size, and JSON that every route can read."""

import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.server.errors import TooLarge, error_response
from api.server.settings import ServeConfig
from api.server.surface.request import route_path
from blend.errors import RequestError

# Possessive, and an unfinished string extends to the end: linear in the length of any body.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_LONE = re.compile("[\ud800-\udfff]")
_DOCUMENT = re.compile(r"/v1/collections/[^/]+/documents/.")
_OTHER_TYPES = ("multipart/", "application/x-www-form-urlencoded", "application/octet-stream", "text/")
_OPENING = b"[{"
_NAMES = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}


def check_json(body: bytes, max_depth: int) -> None:
    """Refuse JSON that some route would fail on.

    Args:
        body: as the client sent it; an empty body is left to the route.

    Raises:
        RequestError: the body is not a JSON object in UTF-8, is nested too deeply, or holds a number or a
            character that is valid in JSON alone.

    >>> check_json(b'{"a": [1, 2.5, null]}', max_depth=2)
    """
    if not body:
        return
    if (depth := _depth(body)) > max_depth:
        raise RequestError(
            f"got JSON nested {depth} deep, expected at most {max_depth} (the server's --max-json-depth)"
        )
    try:
        text = body.decode("utf-8")
        data = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except UnicodeDecodeError as error:
        raise RequestError(f"the body: got bytes that are not UTF-8 at offset {error.start}") from None
    except ValueError as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise RequestError(f"the body: expected JSON: {reason}") from None
    if not isinstance(data, dict):  # no route takes anything else, and some routes would fail on it
        raise RequestError(f"the body: got {_NAMES.get(type(data), 'a number')}, expected a JSON object")
    # Only an escape can hold half of a surrogate pair: UTF-8 has no bytes for it.
    if _SURROGATE.search(body) and _LONE.search(json.dumps(data, ensure_ascii=False)):
        raise RequestError("the body: got half of a surrogate pair (\\ud800 to \\udfff), expected characters")


def _depth(body: bytes) -> int:
    """Nesting depth of arrays and objects; any number for a body that is not JSON."""
    depth = deepest = 0
    for bracket in re.findall(rb"[\[\]{}]", _STRING.sub(b"", body)):
        depth += 1 if bracket in _OPENING else -1
        deepest = max(deepest, depth)
    return deepest


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"got {name}, expected a number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"got {text[:40]}, expected a number below 1.8e308")
    return number


class CheckBodies:
    """ASGI middleware that refuses bodies over their limit and unreadable JSON.

    JSON is read whole before the route runs; uploads are counted while they stream.
    """

    def __init__(self, app: ASGIApp, limits: ServeConfig) -> None:
        self.app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return await self.app(scope, receive, send)
        is_upload = _is_upload(scope)
        limit = self._limits.max_upload_bytes if is_upload else self._limits.max_body_bytes
        too_large = self._too_large(limit, is_upload=is_upload)
        declared = Headers(scope=scope).get("Content-Length", "")
        if declared.isdecimal() and len(declared) < 20 and int(declared) > limit:
            return await error_response(too_large)(scope, receive, send)
        if is_upload:
            return await _Counted(receive, send, limit).run(self.app, scope, too_large)
        try:
            body, disconnect = await _read(receive, limit, too_large)
            check_json(body, self._limits.max_json_depth)
        except (TooLarge, RequestError) as error:
            return await error_response(error)(scope, receive, send)
        await self.app(scope, _replay(body, disconnect, receive), send)

    def _too_large(self, limit: int, *, is_upload: bool) -> TooLarge:
        what, flag = ("an upload", "--max-upload-bytes") if is_upload else ("a body", "--max-body-bytes")
        return TooLarge(f"got {what} of more than {limit} bytes: send less at once, or raise {flag}")


def _is_upload(scope: Scope) -> bool:
    """Whether a body is a file, in a form or for a document's route. All other bodies are JSON."""
    media_type = Headers(scope=scope).get("Content-Type", "").strip().lower()
    is_document = scope["method"] == "PUT" and _DOCUMENT.match(route_path(scope))
    return bool(is_document) or media_type.startswith(_OTHER_TYPES)


async def _read(receive: Receive, limit: int, too_large: TooLarge) -> tuple[bytes, Message | None]:
    """Read a whole body; when the client disconnects first, its message is returned too."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"", message
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise too_large
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts), None


def _replay(body: bytes, disconnect: Message | None, receive: Receive) -> Receive:
    """A `receive` that returns the body that was read, then later messages."""
    waiting = [disconnect or {"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


class _Counted:
    """Counts an upload while it streams; past the limit the route sees a disconnect."""

    def __init__(self, receive: Receive, send: Send, limit: int) -> None:
        self._receive = receive
        self._send = send
        self._left = limit
        self._is_begun = False

    async def run(self, app: Callable[..., Any], scope: Scope, too_large: TooLarge) -> None:
        try:
            await app(scope, self.receive, self.send)
        except Exception:
            if self._left >= 0 or self._is_begun:
                raise  # else the error follows from cutting the upload short
        if self._left < 0 and not self._is_begun:
            await error_response(too_large)(scope, self._receive, self._send)

    async def receive(self) -> Message:
        if self._left < 0:
            return {"type": "http.disconnect"}
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        return message if self._left >= 0 else {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        # A route's answer to half of an upload is not sent.
        if self._left >= 0 or self._is_begun:
            self._is_begun = True
            await self._send(message)
