"""API keys: which keys are valid, and the namespace (tenant) of each."""

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
"""The page is static files without data; it asks its user for a key, which its requests then carry."""

_KEY = re.compile(r"[\x21-\x7e]+")
_YAML = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Key:
    """An API key in memory.

    Attributes:
        digest: of the key; the key itself is not kept.
        namespace: tenant of the key; tenants share nothing with each other.
    """

    digest: bytes
    namespace: str


def make_key(secret: str, name: str | None = None, namespace: str | None = None) -> Key:
    """Make a key; keys of one name share a namespace, so that a key can be rotated.

    Args:
        secret: the key that clients send.
        name: the key's digest when None.
        namespace: the name's digest when None.

    Raises:
        ConfigError: the key cannot be sent in a header, or the namespace is invalid.

    >>> make_key("s1", "ann").namespace == make_key("s2", "ann").namespace
    True
    """
    if not _KEY.fullmatch(secret):
        raise ConfigError(
            f"the key of {name or 'no name'}: expected printable ASCII without spaces, at least 1 character"
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
        ConfigError: a line is invalid; the message does not repeat it, since it may be a key.
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
    """The key that kvblend's own clients send: `$OPENAI_API_KEY`, as the `openai` client does."""
    return os.environ.get("OPENAI_API_KEY") or "none"


class KeyRing:
    """The valid keys; a key file is read again after a change.

    Args:
        file: a file of keys, or None.
        secrets: keys without a name, such as those of vLLM's `--api-key`.

    Raises:
        ConfigError: the file cannot be read, or holds no key.
    """

    def __init__(self, file: Path | None = None, secrets: Iterable[str] = ()) -> None:
        given = re.sub(r"[,\s]+", "\n", os.environ.get(VARIABLE, ""))
        self._fixed = (*parse_keys(given, f"${VARIABLE}"), *(make_key(secret) for secret in secrets))
        self._file = file
        self._state: object = None
        self._of_file: tuple[Key, ...] = ()
        if file is not None:
            self._of_file, self._state = _read(file), _state(file)
            if not self._of_file:
                raise ConfigError(f"{file}: the file holds no key; add one, or leave --key-file out")

    def __bool__(self) -> bool:
        """True if requests must carry a key. An emptied key file keeps this on: then all are refused."""
        return self._file is not None or bool(self._fixed)

    def namespace_of(self, secret: str) -> str | None:
        """The namespace of a key, or None for an unknown key; in constant time."""
        digest = hashlib.sha256(secret.encode()).digest()
        found = None
        for key in self._current():
            if hmac.compare_digest(digest, key.digest):
                found = key.namespace
        return found

    def _current(self) -> Iterator[Key]:
        if self._file is not None and (state := _state(self._file)) != self._state:
            self._state = state  # also for an unreadable file, so that it is logged once
            try:
                self._of_file = _read(self._file)
                logger.info("%s: reloaded, %d keys", self._file, len(self._of_file))
            except ConfigError as error:
                logger.error("keeping the loaded keys: %s", error)
        yield from self._fixed
        yield from self._of_file


def _state(file: Path) -> object:
    """A value that changes whenever the file does."""
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
    """ASGI middleware that refuses requests without a valid key, and records the namespace of the others.

    Websockets are checked too. The CORS middleware answers a browser's preflight before this one.
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
            secret = headers.get("X-API-Key", "")  # the header of clients of /v1/messages
        return self._ring.namespace_of(secret.strip()) if secret else None


def _is_open(scope: Scope) -> bool:
    path = route_path(scope)
    files = scope.get("method") in ("GET", "HEAD") and f"{path}/".startswith(OPEN_FOLDERS)
    return path in OPEN or files


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        return await send({"type": "websocket.close", "code": 1008})
    error = NotAuthenticated("got no API key, or an unknown one: send it as 'Authorization: Bearer KEY'")
    await error_response(error)(scope, receive, send)
