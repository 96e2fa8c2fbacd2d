"""Who asks: keys that clients show, and the namespace that each of them stands for."""

import hashlib
import hmac
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.server.errors import NotAuthenticated, error_response
from api.server.surface.request import NAMESPACE, namespace_in_force, route_path
from blend.chunks.namespace import check_namespace
from blend.errors import ConfigError, RequestError

logger = logging.getLogger(__name__)

VARIABLE = "KVBLEND_API_KEYS"
OPEN = ("/health",)
OPEN_FOLDERS = ("/demo/",)
"""The page is files without data: it asks its reader for a key, which its requests then carry."""

_KEY = re.compile(r"[\x21-\x7e]+")
_YAML = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Key:
    """A key as the server keeps it.

    Attributes:
        digest: of the key; the key itself is not kept.
        namespace: what keys of other namespaces share nothing with.
    """

    digest: bytes
    namespace: str


def make_key(secret: str, name: str | None = None, namespace: str | None = None) -> Key:
    """A key; keys of one name share a namespace, so that one can take the other's place.

    Args:
        secret: what clients send.
        name: unless given, the key's own digest.
        namespace: unless given, the name's digest.

    Raises:
        ConfigError: the key cannot stand in a header, or a namespace is none.

    >>> make_key("s1", "ann").namespace == make_key("s2", "ann").namespace
    True
    """
    if not _KEY.fullmatch(secret):
        raise ConfigError(
            f"the key of {name or 'nobody'}: expected printable ASCII without spaces, from 1 character up"
        )
    try:
        check_namespace(namespace or "")
    except RequestError as error:
        raise ConfigError(str(error)) from None
    digest = hashlib.sha256(secret.encode()).digest()
    of_name = hashlib.sha256(b"kvblend namespace\0" + (name.encode() if name else digest)).hexdigest()[:32]
    return Key(digest, namespace or of_name)


def parse_keys(text: str, source: str, *, is_yaml: bool = False) -> tuple[Key, ...]:
    """The keys of a file or a variable.

    Args:
        text: lines of `name:key` or `key`, `#` before a comment; or YAML, a list of such strings or of
            mappings with `key`, `name` and `namespace`.

    Raises:
        ConfigError: a line is none; what it says is not repeated, for it may be a key.
    """
    if is_yaml:
        try:
            entries = yaml.safe_load(text) or []
        except yaml.YAMLError:
            raise ConfigError(f"{source}: expected YAML") from None
        if not isinstance(entries, list):
            raise ConfigError(f"{source}: expected a list of keys")
    else:
        lines = [line.strip() for line in text.splitlines()]
        entries = [line for line in lines if line and not line.startswith("#")]
    keys = []
    for number, entry in enumerate(entries, start=1):
        try:
            keys.append(_parse(entry))
        except ConfigError as error:
            raise ConfigError(f"{source}, key {number}: {error}") from None
    return tuple(keys)


def _parse(entry: Any) -> Key:
    if isinstance(entry, str):
        name, colon, secret = entry.partition(":")
        return make_key(secret.strip(), name.strip() or None) if colon else make_key(entry.strip())
    known = {"key", "name", "namespace"}
    if (
        not isinstance(entry, Mapping)
        or not known.issuperset(entry)
        or not isinstance(entry.get("key"), str)
        or not all(isinstance(value, str) for value in entry.values())
    ):
        raise ConfigError(f"expected a string, or a mapping of strings with {', '.join(sorted(known))}")
    return make_key(entry["key"], entry.get("name"), entry.get("namespace"))


def own_key() -> str:
    """What kvblend's own clients show to a server: the key of `$OPENAI_API_KEY`, as `openai`'s would."""
    return os.environ.get("OPENAI_API_KEY") or "none"


class KeyRing:
    """The keys in force; those of a file are read again when it has changed.

    Args:
        file: a file of keys, or None.
        secrets: keys without a name, such as those of vLLM's `--api-key`.

    Raises:
        ConfigError: there is a file that holds no key, or one cannot be read.
    """

    def __init__(self, file: Path | None = None, secrets: Iterable[str] = ()) -> None:
        said = re.sub(r"[,\s]+", "\n", os.environ.get(VARIABLE, ""))
        self._fixed = (*parse_keys(said, f"${VARIABLE}"), *(make_key(secret) for secret in secrets))
        self._file = file
        self._state: object = None
        self._of_file: tuple[Key, ...] = ()
        if file is not None:
            self._of_file, self._state = _read(file), _state(file)
            if not self._of_file:
                raise ConfigError(f"{file}: got no key; name one, or leave --key-file out")

    def __bool__(self) -> bool:
        """Whether a key is asked for. With a file one is, also once the file has been emptied."""
        return self._file is not None or bool(self._fixed)

    def namespace_of(self, secret: str) -> str | None:
        """The namespace of a key, or None when it is not known. Takes as long for every key."""
        digest = hashlib.sha256(secret.encode()).digest()
        found = None
        for key in self._current():
            if hmac.compare_digest(digest, key.digest):
                found = key.namespace
        return found

    def _current(self) -> Iterator[Key]:
        if self._file is not None and (state := _state(self._file)) != self._state:
            self._state = state  # also of a file that cannot be read: it is said once
            try:
                self._of_file = _read(self._file)
                logger.info("%s: read again, %d keys", self._file, len(self._of_file))
            except ConfigError as error:
                logger.error("the keys stay as they were: %s", error)
        yield from self._fixed
        yield from self._of_file


def _state(file: Path) -> object:
    """What changes when a file does."""
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _read(file: Path) -> tuple[Key, ...]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the keys in {file}: {type(error).__name__}") from None
    return parse_keys(text, str(file), is_yaml=file.suffix in _YAML)


class AskForKey:
    """ASGI middleware that lets requests pass which show a key, websockets too, and says whose they are.

    Answers to a browser's preflight are given before it, by the middleware for CORS.
    """

    def __init__(self, app: ASGIApp, ring: KeyRing) -> None:
        self.app = app
        self._ring = ring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        namespace: str | None = ""
        if self._ring and not _is_open(scope):
            namespace = self._namespace(Headers(scope=scope))
            if namespace is None:
                return await _refuse(scope, receive, send)
        scope[NAMESPACE] = namespace
        token = namespace_in_force.set(namespace or "")
        try:
            await self.app(scope, receive, send)
        finally:
            namespace_in_force.reset(token)

    def _namespace(self, headers: Headers) -> str | None:
        scheme, _, secret = headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            secret = headers.get("X-API-Key", "")  # as clients of /v1/messages send it
        return self._ring.namespace_of(secret.strip()) if secret else None


def _is_open(scope: Scope) -> bool:
    path = route_path(scope)
    files = scope.get("method") in ("GET", "HEAD") and f"{path}/".startswith(OPEN_FOLDERS)
    return path in OPEN or files


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        return await send({"type": "websocket.close", "code": 1008})
    error = NotAuthenticated(
        "got no key, or one that this server does not know: send it as 'Authorization: Bearer KEY'"
    )
    await error_response(error)(scope, receive, send)
