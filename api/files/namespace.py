"""Whose request it is: the namespace of its key, see `api.surface.keys`."""

from fastapi import Request


def namespace_of(request: Request | None) -> str:
    """The namespace; "" without keys, where everybody is the same."""
    return "" if request is None else str(request.scope.get("kvblend.namespace", ""))
