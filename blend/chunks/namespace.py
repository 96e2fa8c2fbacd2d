"""Namespaces: chunks of one tenant that no other can read, time, or crowd out.

A namespace is part of every key of its chunks, and so of where they lie: they have a folder, a byte budget
and a memory tier of their own. Its requests are blended from its own chunks and from those of no namespace,
which are everybody's to read. In the engine's own cache, tenants are told apart by the salt.
"""

import hashlib
import re

from blend.errors import RequestError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_namespace(name: str) -> str:
    """The name, where it can be a namespace's; "" is no namespace.

    Raises:
        RequestError: it cannot.

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
    """What chunk ids of a namespace are made of in place of the model's fingerprint.

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
    """The cache salt of a namespace's request: no other namespace can state the same.

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
