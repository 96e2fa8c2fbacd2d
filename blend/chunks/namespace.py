"""Namespaces: chunks of one tenant, which no other tenant can read, detect by timing, or evict.

A namespace is part of every chunk id, and so of the chunk's path: each namespace has its own folder, byte
budget and memory tier. Its requests use its own chunks and the shared chunks, those of no namespace. In the
engine's own cache, the salt keeps tenants apart.
"""

import hashlib
import re

from blend.errors import RequestError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_namespace(name: str) -> str:
    """The name, if it is valid; "" means no namespace.

    Raises:
        RequestError: the name is invalid.

    >>> check_namespace("acme"), check_namespace("")
    ('acme', '')
    """
    if name and not NAME.fullmatch(name):
        raise RequestError(
            f"got the namespace {name[:120]!r}, expected letters, digits, '.', '_' and '-', at most 100, "
            "the first a letter or a digit"
        )
    return name


def scoped(fingerprint: str, namespace: str) -> str:
    """What the chunk ids of a namespace are made of, in place of the model's fingerprint.

    Args:
        fingerprint: of the model, hexadecimal digits.

    Returns:
        As many hexadecimal digits as a SHA-256 has; the fingerprint itself for no namespace.

    >>> scoped("ab", ""), scoped("ab", "acme") == scoped("ab", "x")
    ('ab', False)
    """
    if not namespace:
        return fingerprint
    return hashlib.sha256(f"namespace {namespace} of {fingerprint}".encode()).hexdigest()


def salted(namespace: str, salt: str | None) -> str | None:
    """The cache salt of a namespace's request; no other namespace can produce it.

    Args:
        salt: the request's own.

    >>> salted("", None), salted("", "s"), salted("acme", None), salted("acme", "s")
    (None, 's', 'namespace acme', 'namespace acme, salt s')
    >>> salted("", "namespace acme")
    'salt namespace acme'
    """
    if not namespace:
        return f"salt {salt}" if salt is not None and salt.startswith("namespace ") else salt
    return f"namespace {namespace}" if salt is None else f"namespace {namespace}, salt {salt}"
