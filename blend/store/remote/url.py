"""The URL of a remote: what it names, and how it is shown without its secrets."""

import re

from blend.errors import ConfigError

SCHEMES = ("redis", "rediss", "redis+cluster", "rediss+cluster", "s3")
_URL = re.compile(r"(?P<scheme>[a-z0-9+]+)://(?P<rest>[^\s]+)")
_USER = re.compile(r"//[^/@]*@")
_QUERY = re.compile(r"((?:password|username|secret|token|key)[^=&]*=)[^&]*", re.IGNORECASE)
HIDDEN = "***"


def check_url(url: str) -> None:
    """Refuse what names no remote; the message does not repeat what may be a secret.

    Raises:
        ConfigError: it is no URL of a kind that is known.
    """
    found = _URL.fullmatch(url)
    if found is None or found["scheme"] not in SCHEMES:
        got = repr(f"{found['scheme']}://...") if found else "no URL"
        raise ConfigError(
            f"remote: got {got}, expected redis://HOST:PORT/DB, redis+cluster://HOST:PORT (or rediss for "
            "TLS), or s3://BUCKET/PREFIX"
        )


def hide(url: str) -> str:
    """A URL without user, password or other secrets.

    >>> hide("rediss://me:secret@host:6380/1?password=x&timeout=3")
    'rediss://***@host:6380/1?password=***&timeout=3'
    """
    return _QUERY.sub(rf"\1{HIDDEN}", _USER.sub(f"//{HIDDEN}@", url, count=1))


def hide_in(text: str, url: str) -> str:
    """A message in which the URL, and what is secret in it, does not appear.

    >>> hide_in("cannot log in with secret at redis://:secret@host", "redis://:secret@host")
    'cannot log in with *** at redis://***@host'
    """
    text = text.replace(url, hide(url))
    user = _USER.search(url)
    secrets = re.split(r"[:@]", user[0].strip("/")) if user else []
    for secret in filter(None, secrets):
        text = text.replace(secret, HIDDEN) if len(secret) > 2 else text
    return text
